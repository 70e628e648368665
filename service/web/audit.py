"""Who changed what: one row for every change, written in the transaction that makes it.

A use case takes the `Requester` and calls `record_audit` on the connection it writes with. So a change and its row are
committed together or not at all, wherever the process dies, and what changes nothing (a refusal, a repeated cancel, a
replayed answer) leaves no row. The one refusal that is kept is 403, someone reaching for what is not theirs:
there is no change to go with, and `RefusalAuditMiddleware` writes it before it is answered. 401 is not kept, or
strangers could fill the database; the log and the metrics count it.
"""

import hashlib
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, cast
from urllib.parse import quote

import structlog
from fastapi import Depends, Request
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.clock import Clock
from service.database import Database
from service.database.tables import audit
from service.errors import DatabaseUnavailable, Forbidden
from service.identifiers import new_id
from service.web.principal import Principal
from service.web.rates import Window

log = structlog.get_logger()

REFUSED = "refused"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_KEPT_REFUSALS_PER_MINUTE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One line of the audit. `before` and `after` are fingerprints of what was changed."""

    at: datetime
    actor: str
    project: str
    action: str  # `job.cancel`, `api_key.create`
    target: str | None
    method: str
    path: str
    status: int
    request_id: str
    client: str | None
    before_sha256: str | None = None
    after_sha256: str | None = None


_FIELDS = tuple(field.name for field in fields(AuditEntry))
_NEW_ENTRY = insert(audit)  # made once: making it takes half as long as running it


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """Who asks for a change, and by which request: what a use case has to know of it.

    Jobs that are made are the owner's: the actor's, or where the service acts by itself, whose job it does that for.
    """

    actor: str
    owner: str | None
    owner_name: str | None
    project: str
    method: str
    path: str
    request_id: str
    client: str | None  # its address
    if_match: str | None = None  # the versions that it is meant for, as the header has them; None = any

    def entry(
        self,
        action: str,
        *,
        at: datetime,
        target: str | None,
        status: int = 200,
        before: str | None = None,
        after: str | None = None,
    ) -> AuditEntry:
        """The row for a change. `before` and `after` are texts, of which the fingerprints are kept."""
        return AuditEntry(
            at=at,
            action=action,
            target=target,
            status=status,
            before_sha256=_sha256(before),
            after_sha256=_sha256(after),
            actor=self.actor,
            project=self.project,
            method=self.method,
            path=self.path,
            request_id=self.request_id,
            client=self.client,
        )


def _requester(scope: Scope) -> Requester:
    state = scope["state"]
    principal, versions = cast(Principal, state["principal"]), Headers(scope=scope).getlist("if-match")
    return Requester(
        actor=principal.id,
        owner=principal.id,
        owner_name=principal.name,
        project=principal.project,
        method=scope["method"],
        path=quote(scope["path"]),  # as it was sent: it may hold what the database cannot keep
        request_id=state["request_id"],
        client=scope["client"][0] if scope.get("client") else None,
        if_match=", ".join(versions) if versions else None,
    )


async def _requester_of(request: Request) -> Requester:
    return _requester(request.scope)


CurrentRequester = Annotated[Requester, Depends(_requester_of)]


async def record_audit(connection: AsyncConnection, entry: AuditEntry) -> None:
    """Write the row in the transaction of the change."""
    row = {name: getattr(entry, name) for name in _FIELDS}
    await connection.execute(_NEW_ENTRY, {"id": new_id("aud", at=entry.at), **row})


def _sha256(text: str | None) -> str | None:
    return hashlib.sha256(text.encode()).hexdigest() if text is not None else None


class RefusalAuditMiddleware:
    """Keeps attempted changes that were forbidden. Finds the Database in `request.state.database`.

    Of each actor a few a minute, since what is kept stays for good; the log has the others.
    """

    def __init__(self, app: ASGIApp, *, clock: Clock) -> None:
        self._app = app
        self._clock = clock
        self._kept = Window(_KEPT_REFUSALS_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _READING:
            await self._app(scope, receive, send)
            return

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == Forbidden.status:
                await self._note(scope)
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Forbidden:
            await self._note(scope)
            raise

    async def _note(self, scope: Scope) -> None:
        entry = _requester(scope).entry(REFUSED, at=self._clock(), target=None, status=Forbidden.status)
        is_kept = await self._kept.take(entry.actor)
        try:
            if is_kept:
                async with cast(Database, scope["state"]["database"]).writing() as connection:
                    await record_audit(connection, entry)
        except DatabaseUnavailable:
            is_kept = False
        if not is_kept:
            log.warning("audit.refusal_not_kept", actor=entry.actor, method=entry.method, path=entry.path)
