"""API keys as credentials: how one is made, and whose it is.

Only the SHA-256 is kept. The secret has 256 random bits, so that a slow hash would protect nothing.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Row, or_, select, update

from service.database import Database
from service.database.tables import api_keys
from service.errors import DatabaseUnavailable
from service.web.principal import Principal
from service.web.views import Scope

log = structlog.get_logger()

MARK = "cdm_sk_"  # by which secret scanners and people know one
SHOWN_CHARACTERS = len(MARK) + 6

_TRUSTED_FOR = timedelta(seconds=5)  # so long a revoked key may still work in a process that has just seen it
_USE_NOTED_EVERY = timedelta(minutes=1)
_REMEMBERED = 10_000


def new_secret() -> str:
    """A key, to be shown once."""
    return MARK + secrets.token_urlsafe(32)


def sha256_of(secret: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Seen:
    principal: Principal
    good_until: datetime


class ApiKeys:
    """Finds the principal of a key. Good answers are remembered for a few seconds, bad ones never."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, _Seen] = {}

    async def principal(self, secret: str, *, now: datetime) -> Principal | None:
        """None if there is no such key, or it was revoked or has expired."""
        digest = sha256_of(secret)
        seen = self._seen.get(digest)
        if seen and now < seen.good_until:
            return seen.principal
        self._seen.pop(digest, None)
        about = (api_keys.c.id, api_keys.c.name, api_keys.c.project, api_keys.c.scopes)
        query = select(*about, api_keys.c.expires_at, api_keys.c.last_used_at).where(
            api_keys.c.sha256 == digest,
            api_keys.c.revoked_at.is_(None),
            or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now),
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        return await self._remember(digest, row, now=now) if row else None

    async def _remember(self, digest: str, row: Row[*tuple[object, ...]], *, now: datetime) -> Principal:
        found = row._mapping
        scopes = frozenset(map(Scope, json.loads(found["scopes"])))
        principal = Principal(id=found["id"], project=found["project"], scopes=scopes, name=found["name"])
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        trusted_until = now + _TRUSTED_FOR
        self._seen[digest] = _Seen(principal, min(trusted_until, found["expires_at"] or trusted_until))
        if found["last_used_at"] is None or found["last_used_at"] <= now - _USE_NOTED_EVERY:
            await self._note_use(principal.id, now=now)
        return principal

    async def _note_use(self, key_id: str, *, now: datetime) -> None:
        try:
            async with self._database.writing() as connection:
                await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=now))
        except DatabaseUnavailable:  # a database that cannot be written can still be read from
            log.warning("api_key.use_not_noted", api_key=key_id)
