"""What operators are shown and told is about what there is, and every alert says what to do."""

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from ray._private.telemetry.open_telemetry_metric_recorder import NAMESPACE
from ray.dashboard.consts import GPU_TAG_KEYS
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

from tests.support.command import Command
from tests.support.plane import served_in
from tests.support.prometheus import INSTALL, installed, prometheus
from tests.support.served import Service, served
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboards/cdm-train.json"
NAME = re.compile(r"\b(?:cdm|process)_[a-z_]+")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Those that show something."""
    return [one for one in json.loads(DASHBOARD.read_text())["panels"] if one["type"] != "row"]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def queries_about_nodes() -> list[str]:
    """Of what Ray's nodes tell, and not the service."""
    return [query for query in queries() if f"{NAMESPACE}_node_" in query]


@pytest.fixture
async def exposition(tmp_path: Path) -> str:
    """What a real application tells."""
    async with served_in(tmp_path) as service:
        await service.api.get("/v1/jobs")
        return (await service.api.get("/metrics")).text


def without_created(names: set[str]) -> set[str]:
    """The client library adds when each counter began."""
    return {name for name in names if not name.endswith("_created")}


async def test_every_metric_is_described_and_no_other(exposition: str) -> None:
    told = without_created({family.name for family in text_string_to_metric_families(exposition)})
    described = re.findall(r"^\| `(cdm_\w+?)(?:_total)?` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)

    assert set(described) == {name for name in told if name.startswith("cdm_")}


async def test_alerts_and_panels_are_about_metrics_that_there_are(exposition: str) -> None:
    families = text_string_to_metric_families(exposition)
    told = {sample.name for family in families for sample in family.samples}

    used = set(NAME.findall("\n".join([*queries(), *(alert["expr"] for alert in alerts())])))

    assert used <= told
    assert len(used) > 20


def test_panels_about_gpus_are_about_what_nodes_of_ray_tell_of_them() -> None:
    told = {f"{NAMESPACE}_{name}" for name in METRICS_GAUGES}

    assert len(queries_about_nodes()) == 2
    for query in queries_about_nodes():
        assert set(re.findall(rf"\b{NAMESPACE}_\w+", query)) <= told
        (labels,) = re.findall(r"by \((.*?)\)", query)
        assert set(labels.split(", ")) <= set(GPU_TAG_KEYS)


def test_every_alert_has_a_section_that_says_what_to_do_and_no_section_is_of_another() -> None:
    runbook = (ROOT / "docs/runbook.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^#|\Z)", runbook, re.MULTILINE | re.DOTALL))

    assert set(sections) == {alert["alert"] for alert in alerts()}
    assert all(
        {"**Means**", "**Look at**", "**Fix**"} <= set(re.findall(r"\*\*.*?\*\*", text)) for text in sections.values()
    )
    for alert in alerts():
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}
        assert alert["annotations"]["summary"].startswith("{{ $labels.job }}: ")
        assert alert["annotations"]["runbook"] == f"docs/runbook.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in {"warning", "critical"}


def test_panels_fill_lines_and_say_their_unit() -> None:
    places = [panel["gridPos"] for panel in panels()]
    for line in {place["y"] for place in places}:
        assert sum(place["w"] for place in places if place["y"] == line) == 24
        assert len({place["h"] for place in places if place["y"] == line}) == 1
    for panel in panels():
        assert panel["type"] == "state-timeline" or panel["fieldConfig"]["defaults"]["unit"]


def test_the_dashboard_is_of_one_service_and_of_any_prometheus() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    (marks,) = dashboard["annotations"]["list"]
    variables = {one["name"]: one["type"] for one in dashboard["templating"]["list"]}
    asked = [*panels(), *(target for panel in panels() for target in panel["targets"]), marks]

    assert variables == {"datasource": "datasource", "job": "query", "ray": "query"}
    assert all(one["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for one in asked)
    for query in [*queries(), marks["expr"]]:
        metrics = re.findall(rf"\b(?:cdm|process|{NAMESPACE}_node|ALERTS)\w*(?={{)", query)
        assert metrics
        assert query.count('job="$job"') + query.count('job="$ray"') == len(metrics)


def test_alerts_fire_when_they_should_and_not_when_they_should_not() -> None:
    promtool = installed("promtool")
    if promtool is None:
        pytest.skip(INSTALL)
    cases = ALERTS.with_name("alerts.test.yml")
    assert {alert["alert"] for alert in alerts()} <= set(re.findall(r'alertname="(\w+)"', cases.read_text()))

    for command in (
        ["check", "rules", ALERTS],
        ["check", "config", ALERTS.parent / "prometheus.yml"],
        ["test", "rules", cases],
    ):
        done = subprocess.run([promtool, *map(str, command)], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Service]:
    monkeypatch.setenv("CDM_HOME", str(tmp_path / "home"))
    with served(Command(monkeypatch, capsys), tmp_path) as service:
        yield service


def live_through(service: Service) -> None:
    """Have jobs that wait, train, fail and end."""
    service.ended()
    service.ended(status="failed")
    running = service.submit()
    service.worker(running).progress(at=datetime.now(UTC), images_seen=100, useful=10.0)
    wait_until(lambda: service.client.jobs.retrieve(running).state == "running")


def test_every_panel_shows_something_of_a_service_that_works(service: Service, tmp_path: Path) -> None:
    """By a real Prometheus: only that knows whether labels match and what is left of a query."""
    if installed("prometheus") is None:
        pytest.skip(INSTALL)
    (tmp_path / "prometheus").mkdir()
    target = service.url.removeprefix("http://")
    with prometheus(tmp_path / "prometheus", target=target, rules=ALERTS) as server:
        wait_until(lambda: server.values("cdm_jobs"))
        live_through(service)
        for query in set(queries()) - set(queries_about_nodes()):
            wait_until(partial(server.values, query.replace("$__rate_interval", "1m").replace("$job", "cdm-train")))
        assert {rule["health"] for rule in server.rules()} == {"ok"}
        assert [rule["name"] for rule in server.rules() if rule["state"] == "firing"] == []


def test_what_the_threat_model_names_as_proof_is_there() -> None:
    """Claims about security that nothing proves any more must not stay."""
    named = re.findall(r"`((?:service|workers|tests)/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/security.md").read_text())

    assert len(named) > 20
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text() if test else (ROOT / path).is_file(), (path, test)
