"""What the Helm chart makes of values, as documents."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/kubernetes/cdm-train"
EXAMPLES = sorted((ROOT / "deploy/kubernetes/examples").glob("*.yaml"))

Document = dict[str, Any]

# `make chart` puts them there.
_TOOLS = ROOT / ".tools/bin"


def tool(name: str) -> str:
    """Its path; the test is skipped where it is not installed."""
    found = shutil.which(name, path=f"{_TOOLS}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed (`make chart` installs Helm and kubernetes-validate)")
    return found


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [tool("helm"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rendered(example: str, **values: Any) -> list[Document]:
    """By an example's name and further values: `rendered("trial", **{"ray.autoscaling.enabled": True})`."""
    text = _rendered(example, *(f"--set-json={name}={json.dumps(value)}" for name, value in values.items()))
    return [document for document in yaml.safe_load_all(text) if document]


@cache
def _rendered(example: str, *sets: str) -> str:
    release = ("template", "cdm-train", CHART, "--namespace", "cdm", "--values", path_of(example))
    answer = helm(*release, *sets)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def path_of(example: str) -> Path:
    (path,) = (path for path in EXAMPLES if path.stem == example)
    return path


def pods(documents: list[Document]) -> dict[str, Document]:
    """Every kind of pod there will be, by component (Ray's workers: by group), as Pods."""
    return dict(_pods(documents))


def _pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] in ("Deployment", "StatefulSet"):
            yield document["metadata"]["labels"]["app.kubernetes.io/component"], _pod(spec["template"])
        elif document["kind"] == "RayCluster":
            yield "ray-head", _pod(spec["headGroupSpec"]["template"])
            for group in spec["workerGroupSpecs"]:
                yield f"ray-{group['groupName']}", _pod(group["template"])


def _pod(template: Document) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", **template["metadata"]},
        "spec": template["spec"],
    }


def one(documents: list[Document], kind: str, component: str) -> Document:
    found = [
        document
        for document in documents
        if document["kind"] == kind and document["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {component}"
    return found[0]


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """Whether a label selector means what has these labels."""
    expressions = selector.get("matchExpressions", [])
    assert all(one["operator"] == "In" for one in expressions)
    named = selector.get("matchLabels", {}).items() <= labels.items()
    return named and all(labels.get(one["key"]) in one["values"] for one in expressions)
