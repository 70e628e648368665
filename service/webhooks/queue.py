"""Deliveries that are due: taken, settled, and at last forgotten.

A delivery is taken by moving its `due_at` into the future, as far as it may take to send it: whoever took it and died
leaves it due again, and whoever was frozen for longer finds that moment changed, and writes nothing.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, Select, and_, delete, exists, or_, select, update

from service.database import Database
from service.database.tables import deliveries, events, jobs, webhooks
from service.identifiers import first_id
from service.jobs.lifecycle import JobState
from service.jobs.records import EventRecord
from service.webhooks.due import Places, find_due
from service.webhooks.records import Addressee, Claimed, DeliveryRecord, Subject

_KEPT = timedelta(days=30)


class DeliveryQueue:
    """Shared by all replicas."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, *, now: datetime, seconds: float, busy: Iterable[Addressee] = (), failing: Collection[str] = ()
    ) -> Sequence[Claimed]:
        """Take some of what is due. A first try waits for the first tries of earlier events of the same job.

        `busy`: to whom each delivery goes that is on its way already; `failing`: webhooks whose last did not arrive.
        """
        until = now + timedelta(seconds=seconds)
        async with self._database.reading() as connection:  # most of the time there is nothing, and no need to write
            found = await find_due(connection, now=now, places=Places(busy, failing))
        if not found:
            return ()
        still_due = (deliveries.c.id.in_(found), deliveries.c.due_at <= now)
        free = select(deliveries.c.id).where(*still_due).with_for_update(skip_locked=True)
        take = update(deliveries).where(deliveries.c.id.in_(free)).values(due_at=until).returning(deliveries.c.id)
        async with self._database.writing() as connection:
            taken = list(await connection.scalars(take))
            rows = await connection.execute(_whole(taken))
            return [_claimed(row) for row in rows.mappings()]

    async def settle(self, claimed: DeliveryRecord, after: DeliveryRecord) -> bool:
        """Write down what became of it; False if it has been taken by somebody else since, or was replayed."""
        ours = (deliveries.c.id == claimed.id, deliveries.c.due_at == claimed.due_at)
        values = {
            "due_at": after.due_at,
            "tries": after.tries,
            "delivered_at": after.delivered_at,
            "last_status": after.last_status,
            "last_error": after.last_error,
        }
        async with self._database.writing() as connection:
            return bool((await connection.execute(update(deliveries).where(*ours).values(values))).rowcount)

    async def purge(self, *, now: datetime) -> int:
        """Forget what is old and not to be sent any more; the ids tell the age. How many there were."""
        before = now - _KEPT
        old = deliveries.c.id < first_id("dlv", at=before)
        idle = or_(deliveries.c.due_at.is_(None), deliveries.c.due_at < before)  # the latter are of disabled webhooks
        async with self._database.reading() as connection:
            if not await connection.scalar(select(exists().where(old, idle))):
                return 0
        async with self._database.writing() as connection:
            return (await connection.execute(delete(deliveries).where(old, idle))).rowcount


_WEBHOOK = (webhooks.c.project.label("whose"), webhooks.c.url, webhooks.c.secret)
_EVENT = tuple(column.label(f"event_{column.name}") for column in events.c)
_JOB = (jobs.c.project, jobs.c.name, jobs.c.labels, jobs.c.state)


def _whole(ids: Sequence[str]) -> Select[Any]:
    told = and_(events.c.job_id == deliveries.c.job_id, events.c.sequence == deliveries.c.sequence)
    return (
        select(deliveries, *_WEBHOOK, *_EVENT, *_JOB)
        .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
        .outerjoin(events, told)
        .outerjoin(jobs, jobs.c.id == deliveries.c.job_id)
        .where(deliveries.c.id.in_(ids))
    )


def _claimed(row: RowMapping) -> Claimed:
    delivery = DeliveryRecord(**{column.name: row[column.name] for column in deliveries.c})
    return Claimed(delivery=delivery, project=row["whose"], url=row["url"], secret=row["secret"], subject=_subject(row))


def _subject(row: RowMapping) -> Subject | None:
    if row["event_sequence"] is None or row["state"] is None:
        return None
    event = {column.name: row[f"event_{column.name}"] for column in events.c}
    return Subject(
        event=EventRecord(**{**event, "state": JobState(event["state"])}),
        project=row["project"],
        name=row["name"],
        labels=json.loads(row["labels"]),
        state=JobState(row["state"]),
    )
