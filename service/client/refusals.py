"""Which exception an error answer is: by its code, or by its status where the code is new to this client."""

from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx2
from pydantic import ConfigDict, ValidationError

from service.client import errors
from service.client.errors import RequestFailed
from service.web.views import BaseProblem
from workers.contract.document import Problem, problems_of

# Codes whose class their status alone does not tell.
_BY_CODE: dict[str, type[RequestFailed]] = {
    "state_conflict": errors.StateConflict,
    "idempotency_in_flight": errors.StillInFlight,
    "idempotency_answer_not_kept": errors.AnswerLost,
}
_BY_STATUS: dict[int, type[RequestFailed]] = {
    401: errors.AuthenticationFailed,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    412: errors.PreconditionFailed,
    429: errors.RateLimited,
    502: errors.ServiceUnavailable,
    503: errors.ServiceUnavailable,
    504: errors.ServiceUnavailable,
}
_BUSY = frozenset({429, 502, 503, 504})  # what a proxy in front of the service says, too


class _Problem(BaseProblem):
    """With the members that are an error's own."""

    model_config = ConfigDict(extra="allow")


def refusal(response: httpx2.Response, *, address: str, now: datetime) -> RequestFailed:
    """The exception for an answer with an error status."""
    try:
        problem = _Problem.model_validate_json(response.content)
    except ValidationError:
        return foreign(response, address=address, now=now)
    status = response.status_code
    kind = kind_of(status, problem.code)
    problems = [Problem(one.pointer, one.code, one.message) for one in problem.errors]
    message = "; ".join(map(str, problems)) or problem.detail or "no reason given"
    if issubclass(kind, errors.ServiceFailed):
        message += f" (HTTP {status}, request {problem.request_id}; try again, then look at the service's log)"
    return kind(
        message,
        status=status,
        code=problem.code,
        request_id=problem.request_id,
        problems=problems,
        details=problem.model_extra or {},
        retry_after=retry_after_seconds(response.headers.get("retry-after"), now=now),
    )


def foreign(
    response: httpx2.Response, *, address: str, now: datetime, error: ValidationError | None = None
) -> RequestFailed:
    """The exception for an answer that is not the service's own, or for the `error` that it is of another release."""
    status = response.status_code
    kind = _BY_STATUS[status] if status in _BUSY else errors.ServiceFailed
    is_json = response.headers.get("content-type", "").startswith("application/json")
    what = not_understood(error) if error and is_json else "not as cdm-train does: check the address"
    return kind(
        f"{address} answered {status}, but {what}",
        status=status,
        code="unknown",
        request_id=response.headers.get("x-request-id"),
        problems=[],
        details={},
        retry_after=retry_after_seconds(response.headers.get("retry-after"), now=now),
    )


def not_understood(error: ValidationError) -> str:
    """What is wrong with what the service says, and what that may come from."""
    return (
        f"what this release of cdm-train cannot read ({problems_of(error)[0]}): check the address, or install the "
        "release that the service has"
    )


def kind_of(status: int, code: str) -> type[RequestFailed]:
    """The class for a problem document of the service."""
    fallback = errors.InvalidRequest if status < 500 else errors.ServiceFailed
    return _BY_CODE.get(code) or _BY_STATUS.get(status, fallback)


def retry_after_seconds(header: str | None, *, now: datetime) -> float | None:
    """From seconds or an HTTP date; None if it says nothing that can be understood."""
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (TypeError, ValueError):
        return None
