"""Pods in which an operator mends a database while nobody is served, and the commands that are documented for it."""

import os
import re
import signal
import subprocess

import pytest

from tests.support.chart import ROOT, Document, one, pods, rendered

PROBES = {"startupProbe", "readinessProbe", "livenessProbe"}


def _in_maintenance(component: str) -> tuple[Document, Document]:
    """The container that serves, and the one that stands there instead."""
    serving, idle = (pods(rendered("trial", **{f"{component}.maintenance": idle}))[component] for idle in (False, True))
    assert serving["metadata"]["labels"] == idle["metadata"]["labels"], "or no policy would let it reach what it needs"
    assert "initContainers" not in idle["spec"], "a migration makes tables, and a copy is put back where there are none"
    return serving["spec"]["containers"][0], idle["spec"]["containers"][0]


@pytest.mark.parametrize("component", ["api", "mlflow"])
def test_a_pod_stands_there_with_all_that_its_server_has(component: str) -> None:
    serving, idle = _in_maintenance(component)

    assert serving.keys() - idle.keys() == PROBES
    assert idle.keys() - serving.keys() == {"command"}
    assert all(serving[key] == idle[key] for key in serving.keys() & idle.keys())


def test_it_ends_when_it_is_told_to() -> None:
    _, idle = _in_maintenance("api")

    process = subprocess.Popen(idle["command"], start_new_session=True)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its `sleep`, which a container takes with it


def test_no_replica_serves_beside_it() -> None:
    api = one(rendered("production", **{"api.maintenance": True}), "Deployment", "api")["spec"]

    assert api["replicas"] == 1
    assert api["strategy"] == {"type": "Recreate"}


def test_commands_of_the_documentation_are_about_what_the_chart_makes() -> None:
    documents = rendered("trial")
    page = (ROOT / "docs/kubernetes.md").read_text()
    (backups,) = re.findall(r"^## Backups\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    (upgrading,) = re.findall(r"^## Upgrading\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    made = {f"{document['kind'].lower()}/{document['metadata']['name']}" for document in documents}
    made |= {f"{document['metadata']['name']}-0" for document in documents if document["kind"] == "StatefulSet"}
    keys = one(documents, "Secret", "secrets")["stringData"]

    told = re.findall(r"(?:exec|status|port-forward) (?:-i )?(\S+)", backups + upgrading)
    assert set(told) == {
        *("cdm-train-postgres-0", "deployment/cdm-train-api", "deployment/cdm-train-mlflow", "service/cdm-train-s3")
    }
    assert set(told) <= made
    secrets = set(re.findall(r"\$\(of_secret ([a-z0-9-]+)", backups))
    assert secrets == {"database-url", "s3-access-key", "s3-secret-key"}
    assert secrets <= keys.keys()
