"""`Idempotency-Key`: a POST that is repeated is carried out once, and answered alike.

What makes it exactly once is not the stored answer but the ULID that is reserved before anything is done: whoever
creates something under a key takes its id from it (`ReservedUlid`). If the process dies between the change and the
storing of the answer, the repeated request makes the same id and finds what is there.

An answer marked `Cache-Control: no-store` holds a secret and is not kept: the repeated request is told so with 409.
Nor is one to a request that has changed nothing: one that was refused, which may be mended and sent under the same key,
or one that says so by `request.state.nothing_done`. But where an earlier try may have got further, its ULID stays.
"""

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, cast

import structlog
from fastapi import Depends, Header, Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.clock import Clock
from service.database import Database
from service.errors import DatabaseUnavailable, InvalidRequest
from service.web.bodies import read_body, replayed
from service.web.idempotency_store import Answer, IdempotencyStore, Reservation
from service.web.principal import Principal
from workers.contract.document import Problem

log = structlog.get_logger()

_PATTERN = r"[\x21-\x7e]{1,255}"
_KEPT_HEADERS = ("content-type", "location", "etag")
_KEPT_BYTES = 2**20


async def documented_idempotency_key(
    _: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key", pattern=f"^{_PATTERN}$", description="Repeating it repeats the answer, for 7 days"
        ),
    ] = None,
) -> None:
    """For the description of POST routes; the middleware below does the work."""


async def _reserved_ulid(request: Request) -> str | None:
    return getattr(request.state, "reserved_ulid", None)


# The ULID for what this request creates; None without an Idempotency-Key. Use it as `f"job_{ulid}"`, and expect to find
# what has that id already: a request that died half-way is repeated under the same ULID.
ReservedUlid = Annotated[str | None, Depends(_reserved_ulid)]


class IdempotencyMiddleware:
    """Knows keys by project and text. Finds the Database and the principal in `request.state`.

    The answer is held back until it is kept, so that whoever has it can have it again.
    """

    def __init__(self, app: ASGIApp, *, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        principal = cast(Principal | None, scope.get("state", {}).get("principal"))
        if key is None or principal is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if not re.fullmatch(_PATTERN, key):
            wrong = Problem("/header/Idempotency-Key", "pattern", "must be 1 to 255 visible ASCII characters")
            raise InvalidRequest("the Idempotency-Key is wrong", problems=[wrong])
        body = await read_body(receive)
        if body is None:
            return
        store = IdempotencyStore(cast(Database, scope["state"]["database"]))
        digest = _fingerprint(scope, principal, body)
        match await store.reserve(principal.project, key, request_sha256=digest, now=self._clock()):
            case Answer() as answer:
                await _replay(answer)(scope, receive, send)
            case Reservation() as mine:
                scope["state"]["reserved_ulid"] = mine.ulid
                messages = await self._carried_out(store, mine, scope, replayed(body, receive))
                for message in messages:
                    await send(message)

    async def _carried_out(
        self, store: IdempotencyStore, mine: Reservation, scope: Scope, receive: Receive
    ) -> list[Message]:
        messages: list[Message] = []

        async def hold(message: Message) -> None:
            messages.append(message)

        try:
            await self._app(scope, receive, hold)
        except Exception:
            async with _tolerant():
                await store.release(mine, now=self._clock())
            raise
        async with _tolerant():
            await self._settle(store, mine, messages, nothing_done=scope["state"].get("nothing_done", False))
        return messages

    async def _settle(
        self, store: IdempotencyStore, mine: Reservation, messages: list[Message], *, nothing_done: bool
    ) -> None:
        answer = _answer(messages)
        is_refused = 400 <= answer.status < 500
        if nothing_done or (is_refused and mine.is_first):
            await store.forget(mine)
        elif answer.status >= 400:
            await store.release(mine, now=self._clock())
        else:
            await store.finish(mine, answer)


@asynccontextmanager
async def _tolerant() -> AsyncIterator[None]:
    """Without the note the request can be repeated in a minute, under its ULID; that is no reason to fail it now."""
    try:
        yield
    except DatabaseUnavailable as error:
        log.warning("idempotency.not_noted", error=str(error))


def _fingerprint(scope: Scope, principal: Principal, body: bytes) -> str:
    """Of all that makes it the same request; a credential with fewer scopes must not be given another one's answer."""
    head = f"{scope['method']} {scope['path']}?{scope['query_string'].decode('latin-1')}\n{principal.id}\n"
    return hashlib.sha256(head.encode() + body).hexdigest()


def _answer(messages: list[Message]) -> Answer:
    start, *parts = messages
    headers = Headers(raw=start["headers"])
    body = b"".join(part.get("body", b"") for part in parts)
    can_be_kept = "no-store" not in headers.get("cache-control", "") and len(body) <= _KEPT_BYTES
    return Answer(
        status=start["status"],
        headers={name: headers[name] for name in _KEPT_HEADERS if name in headers},
        body=_text(body) if can_be_kept else None,
    )


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _replay(answer: Answer) -> Response:
    headers = {**answer.headers, "Idempotent-Replayed": "true"}
    return Response((answer.body or "").encode(), answer.status, headers)
