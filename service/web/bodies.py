"""The bodies of requests: read once as a whole, no larger than allowed, and given again to what comes after."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RequestTimeout, RequestTooLarge

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})


async def read_body(receive: Receive, *, limit: int | None = None) -> bytes | None:
    """The whole body, or None if the client left before its end.

    Raises:
        RequestTooLarge: as soon as more than `limit` bytes have come.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if limit is not None and len(body) > limit:
            raise RequestTooLarge(f"the body must have at most {limit} bytes")
        if not message.get("more_body", False):
            return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body and then whatever else comes: the end of the connection."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


class BodyLimitMiddleware:
    """Holds bodies back until they are whole, so that a refusal is never in the middle of something.

    What is streamed is counted, whatever `Content-Length` says. A body that dribbles in is given up after
    `timeout_seconds`.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, timeout_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        body = await self._body(scope, receive)
        if body is not None:
            await self._app(scope, replayed(body, receive), send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced) > self._max_bytes:
            raise RequestTooLarge(f"the body has {announced} bytes and must have at most {self._max_bytes}")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await read_body(receive, limit=self._max_bytes)
        except TimeoutError:
            raise RequestTimeout(f"the body must arrive within {self._timeout_seconds:g} s") from None


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return scope["method"] not in _BODILESS or "content-length" in headers or "transfer-encoding" in headers
