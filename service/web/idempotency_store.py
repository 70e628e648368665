"""Which requests were made under which `Idempotency-Key`, and what was answered."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, select, update

from service.database import Database
from service.database.tables import idempotency_keys as keys
from service.errors import IdempotencyAnswerNotKept, IdempotencyInFlight, IdempotencyMismatch
from service.identifiers import new_ulid

KEPT_FOR = timedelta(days=7)
_DEAD_AFTER = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Reservation:
    """The right to carry a request out. `until` tells it from the reservation of whoever takes over after that.

    Unless it `is_first`, somebody has begun before, and may have carried it out.
    """

    project: str
    key: str
    ulid: str
    until: datetime
    is_first: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of an answer; a body of None could not be kept."""

    status: int
    headers: dict[str, str]
    body: str | None


class IdempotencyStore:
    """One row a key, from the first request on for seven days."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, project: str, key: str, *, request_sha256: str, now: datetime) -> Reservation | Answer:
        """Begin, or go on after a process that died or failed, with the ULID it had; or the answer, if there is one.

        Raises:
            IdempotencyMismatch: if the key belongs to another request.
            IdempotencyInFlight: if the first request is being carried out.
            IdempotencyAnswerNotKept: if it was, and its answer held a secret or was too large.
        """
        until = now + _DEAD_AFTER
        ulid = new_ulid(at=now)
        values = {"request_sha256": request_sha256, "reserved_ulid": ulid, "created_at": now, "in_flight_until": until}
        insert = self._database.insert(keys).values(project=project, key=key, **values).on_conflict_do_nothing()
        async with self._database.writing() as connection:
            if (await connection.execute(insert)).rowcount:
                return Reservation(project, key, ulid, until, is_first=True)
            query = select(keys).where(_is(project, key)).with_for_update()
            found = (await connection.execute(query)).mappings().one_or_none()
            if found is None:  # forgotten since the INSERT saw it
                raise IdempotencyInFlight("wait, then repeat the request", retry_after_seconds=1)
            if found["request_sha256"] != request_sha256:
                raise IdempotencyMismatch("it was sent before with another method, path, body or credential")
            if found["in_flight_until"] is None:
                return _kept(Answer(found["status"], json.loads(found["headers"]), found["body"]))
            if found["in_flight_until"] > now:
                raise IdempotencyInFlight("wait, then repeat the request", retry_after_seconds=1)
            await connection.execute(update(keys).where(_is(project, key)).values(in_flight_until=until))
            return Reservation(project, key, found["reserved_ulid"], until, is_first=False)

    async def finish(self, mine: Reservation, answer: Answer) -> None:
        """Keep the answer, unless another one took over."""
        values = {"status": answer.status, "headers": json.dumps(answer.headers), "body": answer.body}
        async with self._database.writing() as connection:
            await connection.execute(update(keys).where(_owned(mine)).values(in_flight_until=None, **values))

    async def release(self, mine: Reservation, *, now: datetime) -> None:
        """Let the request be repeated at once, under its ULID, since it may have been carried out in part."""
        async with self._database.writing() as connection:
            await connection.execute(update(keys).where(_owned(mine)).values(in_flight_until=now))

    async def forget(self, mine: Reservation) -> None:
        """Let the key be used for anything: nothing was done."""
        async with self._database.writing() as connection:
            await connection.execute(delete(keys).where(_owned(mine)))

    async def purge(self, *, now: datetime) -> int:
        """Remove what is older than it is kept for; how many that were."""
        async with self._database.writing() as connection:
            return (await connection.execute(delete(keys).where(keys.c.created_at < now - KEPT_FOR))).rowcount


def _is(project: str, key: str) -> ColumnElement[bool]:
    return and_(keys.c.project == project, keys.c.key == key)


def _owned(mine: Reservation) -> ColumnElement[bool]:
    return and_(_is(mine.project, mine.key), keys.c.in_flight_until == mine.until)


def _kept(answer: Answer) -> Answer:
    if answer.body is None:
        raise IdempotencyAnswerNotKept(
            f"the answer was {answer.status}; it held a secret or was too large to be kept",
            location=answer.headers.get("location", ""),
        )
    return answer
