"""What holds of every answer of ours, besides what the OpenAPI document says; loaded by schemathesis."""

from itertools import count
from typing import Any

import schemathesis

_FIELDS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}
_numbers = count(1)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, _kwargs: dict[str, Any]) -> None:
    """A key that was used for another request gets no further: most right calls have one of their own."""
    key, number = case.headers.get("Idempotency-Key"), next(_numbers)
    is_right = case.meta is None or case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE
    if key and is_right and len(key) < 200 and key.isascii() and key.isprintable() and number % 4:
        case.headers["Idempotency-Key"] = f"{key}-{number}"


@schemathesis.check
def refusals_are_problems(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """RFC 9457 all the way, with the id of the request, and a pointer for everything that is wrong with a field."""
    if response.status_code < 400 or case.method == "HEAD" or case.path == "/readyz":
        return
    assert response.headers["content-type"] == ["application/problem+json"], "not a problem document"
    problem: dict[str, Any] = response.json()
    assert problem.keys() >= _FIELDS, f"without {_FIELDS - problem.keys()}"
    assert problem["status"] == response.status_code, "says another status"
    if "idempotent-replayed" not in response.headers:  # what is repeated keeps the id of the first request
        assert [problem["request_id"]] == response.headers["x-request-id"], "says another request id"
    pointers = [error["pointer"] for error in problem["errors"]]
    assert all(pointer.startswith("/") or pointer == "" for pointer in pointers), f"no JSON pointers: {pointers}"
    if problem["code"] == "validation_failed":
        assert pointers, "no field is named"
    if problem["code"] == "state_conflict":
        assert problem["current_state"], "no state is named"
        assert isinstance(problem["allowed"], list), "does not say what is possible"
