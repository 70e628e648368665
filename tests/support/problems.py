"""Problem documents, as the service answers with them."""

from typing import Any

import httpx2

PROBLEM = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}  # its members


def problem(status: int, *, headers: dict[str, str] | None = None, **fields: object) -> httpx2.Response:
    """One written by hand."""
    document = {"type": "about:blank", "title": "No", "status": status, "detail": "what is wrong", "instance": "/v1"}
    document |= {"code": "some_code", "request_id": "req_7", "errors": [], **fields}
    return httpx2.Response(status, json=document, headers=headers)


def code(response: httpx2.Response) -> tuple[int, str]:
    """Status and code of one that was answered."""
    assert response.headers["Content-Type"] == "application/problem+json", response.text
    return response.status_code, response.json()["code"]


def assert_problem(response: httpx2.Response, *, status: int, code: str) -> dict[str, Any]:
    """One that is whole; its members."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["X-Request-Id"] == body["request_id"]
    assert set(body) >= PROBLEM
    return body


def pointers(body: dict[str, Any]) -> set[str]:
    """The fields that a problem names."""
    return {error["pointer"] for error in body["errors"]}
