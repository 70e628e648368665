"""The chart renders, and Kubernetes would take what it renders. No cluster is asked: schemas are."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema_rs import Draft202012Validator

from tests.support.chart import CHART, EXAMPLES, ROOT, Document, helm, one, pods, rendered, tool

NAMES = [path.stem for path in EXAMPLES]
SCHEMAS = Path(__file__).parents[2] / "support/schemas"

# Beside the examples, what has a branch of its own in the templates.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in NAMES},
    "growing": (
        "trial",
        {
            "ray.autoscaling.enabled": True,
            "ray.gcsFaultTolerance.redisAddress": "redis:6379",
            "networkPolicy.to.redis": [{"podSelector": {"matchLabels": {"app": "redis"}}, "port": 6380}],
        },
    ),
    "data": (
        "trial",
        {
            "ray.dataClaim": "images",
            "certificateAuthority.configMap": "authorities",
            "monitoring.labels": {"release": "prometheus"},
            "monitoring.serviceMonitor": True,
            "monitoring.podMonitor": True,
        },
    ),
    "maintenance": ("trial", {"api.maintenance": True, "mlflow.maintenance": True}),
    "open": ("trial", {"networkPolicy.enabled": False, "images.pullSecrets": ["pull"]}),
    "bare": (
        "production",
        {"mlflow.bundled": False, "mlflow.url": "https://mlflow.example.org", "ingress.tlsSecret": ""},
    ),
}


@pytest.fixture(params=VARIANTS)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    example, values = VARIANTS[request.param]
    return rendered(example, **values)


@pytest.mark.parametrize("path", EXAMPLES, ids=NAMES)
def test_helm_finds_nothing_to_mend(path: Path) -> None:
    answer = helm("lint", "--strict", CHART, "--values", path)

    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_kinds_of_kubernetes_are_valid_with_no_unknown_field(documents: list[Document], tmp_path: Path) -> None:
    ours = [one for one in documents if "." not in one["apiVersion"].split("/")[0] or ".k8s.io/" in one["apiVersion"]]
    ours += pods(documents).values()
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(ours))

    command = [tool("kubernetes-validate"), "--strict", "--quiet", str(tmp_path / "all.yaml")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_custom_resources_are_valid_with_no_unknown_field(documents: list[Document]) -> None:
    for document in documents:
        if document["apiVersion"] in ("ray.io/v1", "monitoring.coreos.com/v1"):
            schema = json.loads((SCHEMAS / f"{document['kind'].lower()}.json").read_text())
            problems = Draft202012Validator(schema).iter_errors(document)
            assert not [f"{one.instance_path}: {one.message}" for one in problems]


def test_a_wrong_field_of_a_custom_resource_would_be_found() -> None:
    schema = json.loads((SCHEMAS / "raycluster.json").read_text())
    wrong = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "spec": {"authOption": {"mode": "token"}}}

    assert not Draft202012Validator(schema).is_valid(wrong)


def test_names_and_labels_hold_together(documents: list[Document]) -> None:
    """Services, budgets and policies select pods that there are, and no two documents have one name."""
    made = [pod["metadata"]["labels"] for pod in pods(documents).values()]
    selectors = [
        one["spec"].get("podSelector", one["spec"].get("selector"))
        for one in documents
        if one["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment", "StatefulSet")
    ]

    assert len({(one["kind"], one["metadata"]["name"]) for one in documents}) == len(documents)
    assert len({one["metadata"]["namespace"] for one in documents}) == 1
    for selector in selectors:
        wanted = selector.get("matchLabels", selector)
        assert any(wanted.items() <= labels.items() for labels in made), wanted


def test_alerts_know_the_api_by_the_name_under_which_it_is_scraped_and_no_other_release_is() -> None:
    documents = rendered("production")
    (endpoint,) = one(documents, "ServiceMonitor", "api")["spec"]["endpoints"]
    groups = one(documents, "PrometheusRule", "api")["spec"]["groups"]
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]

    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "cdm/cdm-train"}]
    for expression in expressions:
        assert set(re.findall(r'job="(.+?)"', expression)) == {"cdm/cdm-train"}
        metrics = re.findall(r"\b(?:up|cdm_\w+)\b", expression)
        assert expression.count('{job="cdm/cdm-train"') == len(metrics)


@pytest.mark.parametrize("path", EXAMPLES, ids=NAMES)
def test_an_example_says_only_what_differs(path: Path) -> None:
    """A value that is the default already would go out of date unseen."""
    defaults, example = (yaml.safe_load(one.read_text()) for one in (CHART / "values.yaml", path))

    assert not list(_repeated(defaults, example, ""))


def _repeated(defaults: Any, given: Any, where: str) -> list[str]:
    if isinstance(given, dict) and isinstance(defaults, dict):
        return [found for key in given for found in _repeated(defaults.get(key), given[key], f"{where}.{key}")]
    return [where] if given == defaults else []


def test_every_value_has_its_place_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert set(schema["properties"]) - {"global"} == set(values)
    for group, value in values.items():
        known = set(schema["properties"][group].get("properties", value))
        assert set(value) == known, group


def test_what_the_chart_holds_copies_of_is_the_same() -> None:
    for copy in (CHART / "files").iterdir():
        (original,) = [path for path in (ROOT / "deploy").rglob(copy.name) if path != copy]
        assert copy.read_text() == original.read_text(), f"cp {original} {copy}"
