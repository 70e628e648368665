"""Secrets that the chart makes are made once: an upgrade that made others would lock everybody out."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
import yaml

from tests.support.chart import CHART, Document, helm, one, path_of, rendered


class _Kubernetes(BaseHTTPRequestHandler):
    """As much of an API server as Helm needs to look up a Secret: which kinds there are, and this one."""

    kinds: ClassVar[set[tuple[str, str]]] = set()
    secret: ClassVar[Document | None] = None

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        groups = sorted({version for version, _ in self.kinds if "/" in version})
        answers: dict[str, Any] = {
            "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(version) for version in groups]},
            "/api/v1": self._resources("v1"),
            **{f"/apis/{version}": self._resources(version) for version in groups},
        }
        if self.secret and path == "/api/v1/namespaces/cdm/secrets/cdm-train":
            answers[path] = self.secret
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        self.send_response(200 if path in answers else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answers.get(path, missing)).encode())

    def _resources(self, version: str) -> Document:
        kinds = sorted(kind for of, kind in self.kinds if of == version)
        named = [{"name": f"{kind.lower()}s", "namespaced": True, "kind": kind, "verbs": ["get"]} for kind in kinds]
        return {"kind": "APIResourceList", "groupVersion": version, "resources": named}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass


def _group(version: str) -> Document:
    one = {"groupVersion": version, "version": version.partition("/")[2]}
    return {"name": version.partition("/")[0], "versions": [one], "preferredVersion": one}


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    kinds = {(document["apiVersion"], document["kind"]) for document in rendered("trial")}
    monkeypatch.setattr(_Kubernetes, "kinds", kinds)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Kubernetes) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _made(kubernetes: str) -> dict[str, str]:
    asking = (
        "--dry-run=server",
        f"--kube-apiserver={kubernetes}",
        "--show-only=templates/secret.yaml",
        "--disable-openapi-validation",
    )
    answer = helm("template", "cdm-train", CHART, "--namespace", "cdm", "--values", path_of("trial"), *asking)
    assert answer.returncode == 0, answer.stderr
    secret: dict[str, str] = one(list(yaml.safe_load_all(answer.stdout)), "Secret", "secrets")["stringData"]
    return secret


def test_an_upgrade_keeps_them_and_makes_what_is_new(kubernetes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _made(kubernetes)
    before = {key: base64.b64encode(value.encode()).decode() for key, value in first.items() if key != "auth_token"}
    release = {"meta.helm.sh/release-name": "cdm-train", "meta.helm.sh/release-namespace": "cdm"}
    who = {
        "name": "cdm-train",
        "namespace": "cdm",
        "annotations": release,
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
    }
    kept = {"apiVersion": "v1", "kind": "Secret", "metadata": who, "data": before}
    monkeypatch.setattr(_Kubernetes, "secret", kept)

    second = _made(kubernetes)

    assert {key for key in first if first[key] != second[key]} == {"auth_token"}
    assert len(second["auth_token"]) == len(first["auth_token"])


def test_each_is_another(kubernetes: str) -> None:
    first, second = _made(kubernetes), _made(kubernetes)

    assert len(set(first.values())) == len(first)
    assert not set(first.values()) & set(second.values())
