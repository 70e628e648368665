"""Whatever is sent to whichever route, on both databases: a problem document that says what is wrong, and never a 500.

Routes are those of the OpenAPI document, so that a new one is tried, too.
"""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.support.plane import Served, served_in
from tests.support.submissions import SMOKE

JSON = {"Content-Type": "application/json"}
NO_LIMITS = {"per_minute": 10**6, "failures_per_minute": 10**6}

# As bytes of a URL: NUL, half a surrogate pair, no UTF-8 at all, long, huge numbers, paths, markup.
ODD = ["%00", "a%00b", "%ED%A0%80", "%FF%FE", "x" * 3000, "9" * 400, "-1", "1e999", "NaN", "..%2F..", "%F0%9F%98%80"]
ODD += ["%27%3B--", "%22", "", "null", "true", "0", "%0A", "2026-11-01", "0001-01-01T00:00:00%2B23:59", "a%3Db%00"]
ODD_BODIES = [
    b"",
    b"{",
    b"nothing",
    b"null",
    b"[]",
    b"3",
    b'"text"',
    b"NaN",
    b"\xff\xfe",
    b"\x00",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"name": "' + b"x" * 5000 + b'"}',
    b'{"name": "a\\u0000b"}',
    b'{"name": "\\ud800"}',
    b'{"\\ud800": 1}',
    b'{"\\u0000": 1}',
    b'{"name": 1, "name": 2}',
    b'{"labels": {"a": "\\u0000", "\\ud800": "b", "": ""}}',
    b'{"overrides": {"\\ud800": 1, "seed": "\\udfff", "network": {"\\u0000": {}}}}',
    b'{"overrides": {"seed": ' + b"9" * 400 + b"}}",
    b'{"spec": {"seed": ' + b"9" * 5000 + b"}}",
    b'{"spec": {"kind": "train", "\\ud800": {"\\ud800": 1}}}',
    b'{"source": {"images_seen": 1e400}}',
    b'{"grace_seconds": NaN}',
    b'{"grace_seconds": -Infinity}',
    b'{"max_workers": 99999999999999999999999999}',
    b'{"unknown": {"deep": [{"er": 1}]}}',
    b'{"expires_at": 5, "scopes": ["root", 7]}',
    b'{"url": "http://\\u0000", "event_types": ["\\ud800"]}',
]
ODD_HEADERS = {
    "Idempotency-Key": ["", "x" * 256, "ü".encode(), b"\x80", "a b", "a\tb"],
    "If-Match": ["", "*", '"', 'W/"1"', "x" * 5000, '"\\"', "ü".encode()],
    "Cdm-Project": ["nowhere", "x" * 5000, "a\tb", "ü".encode(), "../default"],
    "Last-Event-ID": ["-1", "x" * 5000, "9" * 400, "ü".encode()],
    "Range": ["", "bytes=", "bytes=5-2", "bytes=-5-", "bytes=" + "9" * 400 + "-", "x" * 5000, "ü".encode()],
    "X-Request-Id": ["", "x" * 5000, "a b", "ü".encode()],
    "Content-Type": ["text/plain", "application/xml", "multipart/form-data", "application/json; charset=utf-16"],
    "Content-Length": ["-1"],
}
HEADERS_OF_ALL = {"Cdm-Project", "X-Request-Id", "Content-Type", "Content-Length"}


@dataclass(frozen=True, slots=True)
class Operation:
    method: str
    path: str
    query: tuple[str, ...]
    headers: frozenset[str]
    has_body: bool

    def url(self, **ids: str) -> str:
        return self.path.format_map(_Everywhere(ids))


class _Everywhere(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "0"


@pytest.fixture
async def served(tmp_path: Path, database_url: str) -> AsyncIterator[Served]:
    changes = {"requests": NO_LIMITS, "reconcile_interval_seconds": 1.0}  # the loops are not what is tested here
    async with served_in(tmp_path, database_url=database_url, **changes) as served:
        yield served


@pytest.fixture
async def operations(served: Served) -> list[Operation]:
    description = (await served.api.get("/openapi.json")).json()
    return list(_operations(description))


def _operations(description: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parameters = operation.get("parameters", ())
            query = tuple(parameter["name"] for parameter in parameters if parameter["in"] == "query")
            headers = {parameter["name"] for parameter in parameters if parameter["in"] == "header"}
            headers -= {"Cdm-Project"}  # what is there for all routes is tried with one
            headers |= HEADERS_OF_ALL if path == "/v1/jobs" else set()
            yield Operation(method.upper(), path, query, frozenset(headers), "requestBody" in operation)


@pytest.fixture
async def ended(served: Served) -> str:
    """A job whose streams end at once."""
    job_id = await submitted(served.api)
    assert (await served.api.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
    return job_id


async def submitted(api: httpx2.AsyncClient, **headers: str) -> str:
    response = await api.post("/v1/jobs", json={"spec": SMOKE}, headers=headers)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def assert_sound(response: httpx2.Response, *what: object) -> None:
    """An answer that the service meant to give."""
    assert response.status_code < 500, (what, response.text)
    if response.status_code >= 400:
        assert response.headers["Content-Type"] == "application/problem+json", (what, response.text)
        assert response.json()["status"] == response.status_code, what


def refused(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), response.text
    return body


async def test_bodies_that_are_not_what_a_route_takes_are_refused(
    served: Served, operations: list[Operation], ended: str
) -> None:
    for operation in (one for one in operations if one.has_body):
        for body in ODD_BODIES:
            url = operation.url(job_id=ended, name="default")
            response = await served.api.request(operation.method, url, content=body, headers=JSON)
            assert_sound(response, operation, body[:80])


async def test_ids_that_cannot_be_are_not_found(served: Served, operations: list[Operation]) -> None:
    for operation in (one for one in operations if "{" in one.path):
        for value in ODD:
            url = (
                operation.path.split("{")[0] + value + operation.path.split("}", 1)[1].replace("{", "").replace("}", "")
            )
            response = await served.api.request(operation.method, url, content=b"{}", headers=JSON)
            assert_sound(response, operation, value)
            assert value == "" or response.status_code >= 400, (operation, value)


async def test_query_parameters_that_cannot_be_are_refused(
    served: Served, operations: list[Operation], ended: str
) -> None:
    for operation in operations:
        for name in operation.query:
            for value in ODD:
                url = operation.url(job_id=ended, name="default")
                response = await served.api.request(operation.method, f"{url}?{name}={value}&{name}={value}")
                assert_sound(response, operation, name, value)


async def test_headers_that_cannot_be_are_refused_or_make_no_difference(
    served: Served, operations: list[Operation], ended: str
) -> None:
    for operation in operations:
        for name in operation.headers & ODD_HEADERS.keys():
            for value in ODD_HEADERS[name]:
                url = operation.url(job_id=ended, name="default")
                content = b"{}" if operation.has_body else None
                response = await served.api.request(operation.method, url, content=content, headers={name: value})  # type: ignore[dict-item]
                assert_sound(response, operation, name, value)


async def test_every_route_is_served_for_its_methods_only_and_says_which(
    served: Served, operations: list[Operation]
) -> None:
    for path in {one.path for one in operations}:
        served_methods = {one.method for one in operations if one.path == path}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - served_methods:
            response = await served.api.request(method, path.replace("{", "").replace("}", ""))
            assert refused(response, 405, "method_not_allowed")
            assert set(response.headers["Allow"].split(", ")) - {"HEAD"} == served_methods, path


async def test_jobs_of_another_project_are_not_found_by_any_route(served: Served, operations: list[Operation]) -> None:
    theirs = await submitted(served.api)
    assert (await served.api.post("/v1/projects", json={"name": "other"})).status_code == 201
    key = await served.api.post("/v1/api-keys", json={"project": "other", "scopes": ["jobs:read", "jobs:write"]})
    headers = {"Authorization": f"Bearer {key.json()['key']}"}

    for operation in (one for one in operations if "{job_id}" in one.path):
        url = operation.url(job_id=theirs)
        content = b"{}" if operation.has_body else None
        response = await served.api.request(operation.method, url, content=content, headers={**JSON, **headers})
        refused(response, 404, "job_not_found")
    assert (await served.api.get("/v1/jobs", headers=headers)).json()["data"] == []
    assert (await served.api.get("/v1/queue", headers=headers)).json()["data"] == []
    refused(await served.api.get("/v1/jobs", headers={**headers, "Cdm-Project": "default"}), 403, "forbidden")


async def test_what_a_state_does_not_allow_is_refused_with_the_state_and_what_it_allows(served: Served) -> None:
    job_id = await submitted(served.api)
    url = f"/v1/jobs/{job_id}"
    assert (await served.api.post(f"{url}/cancel")).status_code == 200

    for method, path in (("POST", f"{url}/pause"), ("POST", f"{url}/resume"), ("POST", f"{url}/cancel")):
        body = refused(await served.api.request(method, path), 409, "state_conflict")
        assert body["current_state"] == "cancelled"
        assert body["allowed"] == ["archive", "delete", "fork", "replay", "retry"]
    assert (await served.api.delete(url)).status_code == 204
    refused(await served.api.get(url), 410, "job_gone")
    refused(await served.api.post(f"{url}/retry"), 410, "job_gone")


async def test_unknown_and_wrong_fields_are_all_named_by_their_pointers(served: Served, ended: str) -> None:
    wrong = {"nmae": "a", "labels": {"a b": "c"}, "priority": "top", "max_runtime_seconds": -1}

    for method, path in (("POST", "/v1/jobs"), ("PATCH", f"/v1/jobs/{ended}"), ("POST", f"/v1/jobs/{ended}/fork")):
        body = refused(await served.api.request(method, path, json=wrong), 422, "validation_failed")
        pointers = {error["pointer"] for error in body["errors"]}
        assert {"/nmae", "/priority", "/max_runtime_seconds"} <= pointers, path
        assert any(pointer.startswith("/labels/a b") for pointer in pointers), path


async def test_cursors_of_other_lists_and_made_up_ones_are_refused(served: Served) -> None:
    for path in ("/v1/jobs", "/v1/projects", "/v1/api-keys", "/v1/audit"):
        for cursor in ("x", "am9iczo", "%00", "Zm9vOmJhcg", quote("jobs:job_1"), "x" * 500, "x" * 501):
            body = refused(await served.api.get(f"{path}?cursor={cursor}"), 422, "validation_failed")
            assert [error["pointer"] for error in body["errors"]] == ["/query/cursor"]


async def test_bodies_that_are_too_large_are_refused(served: Served, operations: list[Operation], ended: str) -> None:
    for operation in (one for one in operations if one.has_body):
        url = operation.url(job_id=ended, name="default")
        response = await served.api.request(operation.method, url, content=b" " * (1 << 21), headers=JSON)
        refused(response, 413, "request_too_large")


async def test_a_key_that_comes_again_repeats_the_answer_and_with_another_body_is_refused(served: Served) -> None:
    body = json.dumps({"spec": SMOKE}).encode()
    headers = {**JSON, "Idempotency-Key": "once"}
    first = await served.api.post("/v1/jobs", content=body, headers=headers)

    again = await served.api.post("/v1/jobs", content=body, headers=headers)
    other = await served.api.post("/v1/jobs", content=body + b" ", headers=headers)

    assert (again.status_code, again.json(), again.headers["Idempotent-Replayed"]) == (201, first.json(), "true")
    refused(other, 422, "idempotency_mismatch")
    assert len((await served.api.get("/v1/jobs")).json()["data"]) == 1
