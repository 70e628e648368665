"""What can go wrong between a client and the service.

    ClientError
      ServiceUnreachable        no answer: not started, wrong address, timeout
      StillRunning              `wait` ran out of time; the job goes on
      RequestFailed             an answer that says no; has status, code, request_id
        AuthenticationFailed    401, 403
        NotFound                404
        Conflict                409
        InvalidRequest          400, 413, 422; has problems, one per wrong field
        ServiceFailed           5xx, or an answer that is not ours

The text of each is one line that says what to do.
"""

import json
from typing import Any

from workers.contract.document import Problem


class ClientError(Exception):
    """Anything this SDK raises."""


class ServiceUnreachable(ClientError):
    """The service did not answer."""


class StillRunning(ClientError):
    """The job has not ended in the time given to `wait`."""


class RequestFailed(ClientError):
    """The service answered with an error."""

    def __init__(
        self, message: str, *, status: int, code: str, request_id: str | None, problems: list[Problem]
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.problems = problems


class AuthenticationFailed(RequestFailed):
    """The key is missing or wrong."""


class NotFound(RequestFailed):
    """There is no such thing."""


class Conflict(RequestFailed):
    """Not in this state."""


class InvalidRequest(RequestFailed):
    """Something in the request is wrong; see `problems`."""


class ServiceFailed(RequestFailed):
    """The service could not do it; trying again later may help."""


def refusal(status: int, content: bytes, *, address: str) -> RequestFailed:
    """The exception for an answer with an error status."""
    problem = _problem(content)
    errors = problem.get("errors") or []
    problems = [Problem(error["pointer"], error["code"], error["message"]) for error in errors]
    detail = "; ".join(map(str, problems)) or problem.get("detail") or "no reason given"
    kind, advice = _kind(status, ours="code" in problem)
    return kind(
        advice.format(detail=detail, status=status, address=address),
        status=status,
        code=problem.get("code", "unknown"),
        request_id=problem.get("request_id"),
        problems=problems,
    )


def _kind(status: int, *, ours: bool) -> tuple[type[RequestFailed], str]:
    if not ours:
        return ServiceFailed, "{address} answered {status}, but not as cdm-train does: check the address"
    match status:
        case 401 | 403:
            return AuthenticationFailed, "{detail}"
        case 404:
            return NotFound, "{detail}"
        case 409:
            return Conflict, "{detail}"
        case _ if status < 500:
            return InvalidRequest, "{detail}"
        case _:
            return ServiceFailed, "{detail} (HTTP {status}; try again, then look at the service's log)"


def _problem(content: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(content)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
