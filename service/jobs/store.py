"""Jobs in the database. A job's change and the events that tell of it are one transaction."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Insert, Update, bindparam, delete, exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database import Database, free_leases
from service.database.tables import attempts, events, installation, job_labels, jobs
from service.errors import JobGone
from service.jobs.lifecycle import EventType, JobState
from service.jobs.lookup import ACTIVE, COLUMNS, THIS_JOB, UNFINISHED, JobLookup
from service.jobs.planning_views import Usage
from service.jobs.records import AttemptRecord, EventRecord, JobRecord
from service.jobs.rows import JOB_FIELDS, changed_row, event_row, job_of, job_row
from service.jobs.usage import usage

_THIS_JOB_LOCKED = THIS_JOB.with_for_update()
# Of others that change, or of these where it matters, an event tells.
_TRANSIENT_FIELDS = {"record_due", "progress", "heard_at", "advanced_at", "conditions", "reason", "message"}
_FREE = {"lease_token": None, "lease_until": None}
MIN_LEASE_SHARE = 0.75  # of a lease is left to who holds it, whenever it is asked
_NEW_EVENT, _NEW_LABEL = insert(events), insert(job_labels)  # made once: making one takes half as long as running it


class JobStore(JobLookup):
    """What is known of jobs, and how they change. `on_event` joins the transaction of every event."""

    def __init__(
        self,
        database: Database,
        *,
        on_event: Callable[[AsyncConnection, EventRecord, str], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(database)
        self._on_event = on_event
        self._new = database.insert(jobs).on_conflict_do_nothing(index_elements=["id"])

    async def usage(self, project: str | None, *, since: datetime, until: datetime) -> Usage:
        """Who has had how much of the cluster, for a project or all."""
        async with self._database.reading() as connection:
            return await usage(connection, project, since=since, until=until)

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction for changes of which all are made or none."""
        return self._database.writing()

    async def create(self, job: JobRecord) -> JobRecord | None:
        """`insert` as a transaction of its own."""
        async with self.writing() as connection:
            return await self.insert(connection, job)

    async def insert(
        self, connection: AsyncConnection, job: JobRecord, *, actor: str | None = None
    ) -> JobRecord | None:
        """Write a new job down, and return it with its first event; None if there is one of this id."""
        first = replace(job, event_sequence=1)
        if (await connection.execute(self._new, job_row(first))).rowcount == 0:
            return None
        await _add_labels(connection, first)
        await self._append(connection, first, ["created"], actor=actor, at=job.created_at)
        return first

    async def give_evaluation_up(self, job: JobRecord, images_seen: int) -> None:
        """The checkpoints up to here get no evaluation any more."""
        async with self._database.writing() as connection:
            await mark_evaluated(connection, job.id, images_seen)

    async def evaluations_done(self, job: JobRecord) -> None:
        """All its checkpoints have been seen to; not if it has moved on meanwhile, as by `retry`."""
        unmoved = (jobs.c.id == job.id) & (jobs.c.state == job.state) & (jobs.c.attempt == job.attempt)
        async with self._database.writing() as connection:
            await connection.execute(update(jobs).where(unmoved).values(evaluations_due=False))

    async def comparison_done(self, job: JobRecord) -> None:
        """It has its comparison with its control, or never gets it."""
        done = update(jobs).where(jobs.c.id == job.id).values(comparison_due=False, record_due=True)
        async with self._database.writing() as connection:
            await connection.execute(done)

    async def apply(
        self,
        job: JobRecord,
        changed: JobRecord,
        *,
        events: Sequence[EventType] = (),
        at: datetime,
        attempt: AttemptRecord | None = None,
        lease: str | None = None,
    ) -> JobRecord | None:
        """`change` as a transaction of its own; of what changes nothing the database hears nothing."""
        if changed == job and not events and not attempt:
            return changed
        async with self.writing() as connection:
            return await self.change(connection, job, changed, events=events, at=at, attempt=attempt, lease=lease)

    async def change(
        self,
        connection: AsyncConnection,
        job: JobRecord,
        changed: JobRecord,
        *,
        events: Sequence[EventType] = (),
        at: datetime,
        attempt: AttemptRecord | None = None,
        lease: str | None = None,
        actor: str | None = None,
    ) -> JobRecord | None:
        """Write what `changed` has otherwise than `job`, and return it; None if the job has moved on meanwhile.

        With a `lease`, also None if that has passed to somebody else: a replica that slept changes nothing.
        """
        changed = replace(changed, event_sequence=job.event_sequence + len(events))
        values = changed_row(job, changed)
        unmoved = [jobs.c[name] == getattr(job, name) for name in ("id", "state", "attempt", "intent")]  # or IS NULL
        if events:
            unmoved.append(jobs.c.event_sequence == job.event_sequence)
        if lease:
            unmoved.append(jobs.c.lease_token == lease)
        if job.state.is_active and not changed.state.is_active:
            values |= _FREE
        result = await connection.execute(update(jobs).where(*unmoved).values(values or {"id": job.id}))
        if result.rowcount == 0:
            return None
        if "labels" in values:
            await connection.execute(delete(job_labels).where(job_labels.c.job_id == job.id))
            await _add_labels(connection, changed)
        if attempt:
            await self._write_attempt(connection, attempt)
        await self._append(connection, changed, events, actor=actor, at=at)
        return changed

    async def explain(self, connection: AsyncConnection, waiting: Mapping[str, tuple[str, str]]) -> None:
        """Say why queued jobs wait, in a word and a text. No event: it changes often, and the job does not."""
        queued = (jobs.c.id == bindparam("job_id")) & (jobs.c.state == JobState.QUEUED)
        statement = update(jobs).where(queued).values(reason=bindparam("word"), message=bindparam("text"))
        rows = [{"job_id": job_id, "word": word, "text": text} for job_id, (word, text) in sorted(waiting.items())]
        await connection.execute(statement, rows)

    async def hold(self, token: str, *, now: datetime, seconds: float) -> list[JobRecord]:
        """All active jobs that are now this token's for most of so long: those that it had, and that nobody had.

        A lease is written again when a part of it has passed, not at each call.
        """
        ours, renew_before = jobs.c.lease_token == token, now + timedelta(seconds=MIN_LEASE_SHARE * seconds)
        free = or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < now, ours & (jobs.c.lease_until < renew_before))
        chosen = select(jobs.c.id).where(jobs.c.state.in_(ACTIVE), free).with_for_update(skip_locked=True)
        until = now + timedelta(seconds=seconds)
        statement = update(jobs).where(jobs.c.id.in_(chosen)).values(lease_token=token, lease_until=until)
        async with self._database.reading() as connection:  # most of the time there is nothing, and no need to write
            is_due = await connection.scalar(select(exists().where(jobs.c.state.in_(ACTIVE), free)))
        if is_due:
            async with self._database.writing() as connection:
                await connection.execute(statement)
        held = jobs.c.state.in_(ACTIVE) & ours & (jobs.c.lease_until >= renew_before)
        return await self._jobs(select(*COLUMNS).where(held).order_by(jobs.c.id))

    async def release(self, token: str, job_ids: Collection[str] | None = None) -> None:
        """Give back what is held under this token: these jobs, or all."""
        given = jobs.c.lease_token == token
        given = given & jobs.c.id.in_(job_ids) if job_ids is not None else given
        async with self._database.writing() as connection:
            await connection.execute(update(jobs).where(given).values(_FREE))

    async def release_all(self) -> None:
        """Give back what anybody held: of a database whose replicas are gone."""
        await free_leases(self._database)

    async def restore(
        self, job: JobRecord, found: Sequence[AttemptRecord], *, known: JobRecord | None, at: datetime
    ) -> bool:
        """Put a job back as it was, in place of what is known of it, with its number of events, which are lost.

        False if it has moved on meanwhile: then a service runs, which knows better.
        """
        job = replace(job, event_sequence=job.event_sequence + 1, record_due=True)
        put: Insert | Update = insert(jobs)
        if known:
            put = update(jobs).where(jobs.c.id == known.id, jobs.c.event_sequence == known.event_sequence)
        async with self._database.writing() as connection:
            if (await connection.execute(put.values(job_row(job)))).rowcount == 0:
                return False
            await connection.execute(delete(job_labels).where(job_labels.c.job_id == job.id))
            await _add_labels(connection, job)
            for attempt in found:
                await self._write_attempt(connection, attempt)
            await self._append(connection, job, ["rebuilt"], actor=None, at=at)
        return True

    async def _write_attempt(self, connection: AsyncConnection, attempt: AttemptRecord) -> None:
        row = asdict(attempt)
        statement = self._database.insert(attempts).values(row)
        await connection.execute(statement.on_conflict_do_update(index_elements=["job_id", "number"], set_=row))

    async def record_saved(self, job: JobRecord) -> None:
        """Its copy is as new as `job`. If it has changed since, another is due: this may have replaced a newer one."""
        async with self._database.writing() as connection:
            found = (await connection.execute(_THIS_JOB_LOCKED, {"job_id": job.id})).mappings().one()
            is_newer = _durable_fields(job_of(found)) != _durable_fields(job)
            await connection.execute(update(jobs).where(jobs.c.id == job.id).values(record_due=is_newer))

    async def update_attempt(self, attempt: AttemptRecord, **values: Any) -> None:
        """Note something about an attempt that is over."""
        async with self._database.writing() as connection:
            await connection.execute(update(attempts).where(_is(attempt)).values(values))

    async def settle_installation(self, fresh: str) -> str:
        """Be `fresh` from now on, unless a replica was quicker."""
        async with self._database.writing() as connection:
            await connection.execute(self._database.insert(installation).values(id=fresh).on_conflict_do_nothing())
            return str(await connection.scalar(select(installation.c.id)))

    async def adopt_installation(self, kept: str) -> None:
        """Be this from now on, as the store is; for a database that has no jobs yet."""
        async with self._database.writing() as connection:
            await connection.execute(delete(installation))
            await connection.execute(self._database.insert(installation).values(id=kept).on_conflict_do_nothing())

    async def _append(
        self,
        connection: AsyncConnection,
        job: JobRecord,
        types: Sequence[EventType],
        *,
        actor: str | None,
        at: datetime,
    ) -> None:
        """Number them up to the job's own number, which the update of its row has reserved."""
        for back, type_ in enumerate(reversed(types)):
            row = event_row(job, sequence=job.event_sequence - back, type=type_, actor=actor, at=at)
            await connection.execute(_NEW_EVENT, row)
            if self._on_event:
                await self._on_event(connection, EventRecord(**row), job.project)


async def unfinished_forks(connection: AsyncConnection, job_id: str) -> list[str]:
    """Jobs that start or draw from a checkpoint of this one and have not ended."""
    query = select(jobs.c.id).where(jobs.c.parent_job_id == job_id, jobs.c.state.in_(UNFINISHED))
    return list(await connection.scalars(query))


async def mark_evaluated(connection: AsyncConnection, job_id: str, images_seen: int) -> None:
    """The checkpoints up to here have their evaluations."""
    earlier = (jobs.c.id == job_id) & (jobs.c.evaluated_images < images_seen)
    await connection.execute(update(jobs).where(earlier).values(evaluated_images=images_seen, record_due=True))


async def require_kept(connection: AsyncConnection, job_id: str) -> None:
    """See that a job is not deleted, nor will be before the end of this transaction.

    Raises:
        JobGone: it is.
    """
    query = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.deleted_at.is_(None))
    if await connection.scalar(query.with_for_update(read=True)) is None:
        raise JobGone(f"{job_id} has just been deleted")


async def _add_labels(connection: AsyncConnection, job: JobRecord) -> None:
    if job.labels:
        rows = [{"job_id": job.id, "key": key, "value": value} for key, value in job.labels.items()]
        await connection.execute(_NEW_LABEL, rows)


def _durable_fields(job: JobRecord) -> dict[str, Any]:
    """What makes a copy old when it changes, with an event or without: all but what the next look may change again."""
    durable = {name: getattr(job, name) for name in JOB_FIELDS if name not in _TRANSIENT_FIELDS}
    return durable | {"dataset": job.dataset or None}  # that it is of none would be found out again


def _is(attempt: AttemptRecord) -> ColumnElement[bool]:
    return (attempts.c.job_id == attempt.job_id) & (attempts.c.number == attempt.number)
