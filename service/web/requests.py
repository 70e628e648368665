"""Around every request: an id, one log line, and an answer even when the code behind it refuses or fails."""

import re
import secrets
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ServiceError
from service.web.problems import problem, refusal

log = structlog.get_logger()

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class RequestMiddleware:
    """Takes the caller's `X-Request-Id` or makes one, and returns it with the answer.

    What middleware inside of this one raises as a ServiceError leaves as its problem document.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.monotonic(), None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except ServiceError as error:
                if status is not None:
                    raise
                await refusal(Request(scope), error)(scope, receive, send_with_id)
            except Exception:
                log.exception("request.failed", method=scope["method"], path=scope["path"])
                if status is not None:
                    raise  # half an answer cannot be mended
                await _internal_error(scope)(scope, receive, send_with_id)
            elapsed_ms = round(1000 * (time.monotonic() - started), 1)
            tell = log.debug if scope["method"] == "GET" and status == 200 else log.info  # watching asks every second
            tell("request", method=scope["method"], path=scope["path"], status=status, elapsed_ms=elapsed_ms)


def _internal_error(scope: Scope) -> ASGIApp:
    return problem(
        Request(scope),
        status=500,
        code="internal",
        title="The service failed",
        detail="this is not your fault; its log has more under the request id",
    )
