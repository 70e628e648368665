"""Jobs in the database. A job's change and the events that tell of it are one transaction."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    delete,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
    union,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database import Database
from service.database.tables import Instant, attempts, events, installation, job_labels, jobs, projects
from service.identifiers import first_id
from service.jobs.lifecycle import JobState
from service.jobs.records import AttemptRecord, EventRecord, JobRecord, QueuedJob
from service.jobs.rows import JOB_FIELDS, changed_row, event_of, event_row, job_of, job_row

_ACTIVE = tuple(state for state in JobState if state.is_active)
_COLUMNS = tuple(jobs.c[name] for name in JOB_FIELDS)
_JOB = select(*_COLUMNS)
_IS_QUEUED = jobs.c.state == literal_column(f"'{JobState.QUEUED}'")  # spelt out, or the partial indexes are not used
_TURN = (jobs.c.priority.desc(), jobs.c.queued_at, jobs.c.id)
_QUEUED = select(*(jobs.c[field.name] for field in fields(QueuedJob)))
_QUEUE = _QUEUED.where(_IS_QUEUED).order_by(*_TURN).limit(bindparam("most"))
_TURNS = select(
    jobs.c.id, func.row_number().over(partition_by=(jobs.c.project, jobs.c.accelerator), order_by=_TURN).label("turn")
).where(_IS_QUEUED)
_THIS_JOB = _JOB.where(jobs.c.id == bindparam("job_id"))
_THIS_ATTEMPT = select(attempts).where(attempts.c.job_id == bindparam("job"), attempts.c.number == bindparam("of"))
_UNFINISHED = tuple(state for state in JobState if not state.is_terminal)
_RESERVED = timedelta(days=8)  # an id taken for an Idempotency-Key is used within the seven days that it is kept
Inside = Callable[[AsyncConnection], Awaitable[None]]  # what is to be part of the same transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which jobs a client wants to see."""

    project: str
    state: JobState | None = None
    labels: tuple[tuple[str, str], ...] = ()
    created_after: datetime | None = None
    archived: bool = False
    before: str | None = None  # ids below this one


class JobStore:
    """The only place that knows the queries of jobs. `on_event` joins the transaction of every event."""

    def __init__(
        self,
        database: Database,
        *,
        on_event: Callable[[AsyncConnection, EventRecord, str], Awaitable[None]] | None = None,
    ) -> None:
        self._database = database
        self._on_event = on_event

    async def create(self, job: JobRecord, *, actor: str | None = None, inside: Inside | None = None) -> bool:
        """Write a new job down; False if there is one of this id."""
        first = replace(job, event_sequence=1)
        async with self._database.writing() as connection:
            statement = self._database.insert(jobs).on_conflict_do_nothing(index_elements=["id"])
            if (await connection.execute(statement, job_row(first))).rowcount == 0:
                return False
            await _add_labels(connection, first)
            await self._append(connection, first, ["created"], actor=actor, at=job.created_at)
            if inside:
                await inside(connection)
        return True

    async def apply(
        self,
        job: JobRecord,
        changed: JobRecord,
        *,
        events: Sequence[str] = (),
        at: datetime,
        changed_attempts: Sequence[AttemptRecord] = (),
        lease: str | None = None,
        actor: str | None = None,
        inside: Inside | None = None,
    ) -> JobRecord | None:
        """Write what `changed` has otherwise than `job`, and return it; None if the job has moved on meanwhile.

        With a `lease`, also None if that has passed to somebody else: a replica that slept changes nothing.
        """
        changed = replace(changed, event_sequence=job.event_sequence + len(events))
        values = changed_row(job, changed)
        if not values and not changed_attempts:
            return changed
        unmoved = [jobs.c.id == job.id, jobs.c.state == job.state, jobs.c.attempt == job.attempt]
        if events:
            unmoved.append(jobs.c.event_sequence == job.event_sequence)
        if lease:
            unmoved.append(jobs.c.lease_token == lease)
        async with self._database.writing() as connection:
            result = await connection.execute(update(jobs).where(*unmoved).values(values or {"id": job.id}))
            if result.rowcount == 0:
                return None
            if "labels" in values:
                await connection.execute(delete(job_labels).where(job_labels.c.job_id == job.id))
                await _add_labels(connection, changed)
            for attempt in changed_attempts:
                row = asdict(attempt)
                statement = self._database.insert(attempts).values(row)
                key = ["job_id", "number"]
                await connection.execute(statement.on_conflict_do_update(index_elements=key, set_=row))
            await self._append(connection, changed, events, actor=actor, at=at)
            if inside:
                await inside(connection)
        return changed

    async def explain(self, waiting: Mapping[str, tuple[str, str]], *, inside: Inside) -> None:
        """Say why queued jobs wait, in a word and a text. No event: it changes often, and the job does not."""
        queued = (jobs.c.id == bindparam("job_id")) & (jobs.c.state == JobState.QUEUED)
        statement = update(jobs).where(queued).values(reason=bindparam("word"), message=bindparam("text"))
        rows = [{"job_id": job_id, "word": word, "text": text} for job_id, (word, text) in sorted(waiting.items())]
        async with self._database.writing() as connection:
            await inside(connection)
            await connection.execute(statement, rows)

    async def claim(self, token: str, *, now: datetime, seconds: float) -> list[JobRecord]:
        """Take all active jobs that nobody else has, for so long."""
        free = or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < now)
        chosen = select(jobs.c.id).where(jobs.c.state.in_(_ACTIVE), free).with_for_update(skip_locked=True)
        until = now + timedelta(seconds=seconds)
        statement = update(jobs).where(jobs.c.id.in_(chosen)).values(lease_token=token, lease_until=until)
        async with self._database.reading() as connection:  # most of the time there is nothing, and no need to write
            if not await connection.scalar(select(exists().where(jobs.c.state.in_(_ACTIVE), free))):
                return []
        async with self._database.writing() as connection:
            rows = (await connection.execute(statement.returning(*_COLUMNS))).mappings()
            return sorted(map(job_of, rows), key=lambda job: job.id)

    async def release(self, token: str) -> None:
        """Give back what was claimed under this token."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(jobs).where(jobs.c.lease_token == token).values(lease_token=None, lease_until=None)
            )

    async def restore(self, job: JobRecord, found: Sequence[AttemptRecord]) -> None:
        """Put a job back as it was, with its number of events; the events themselves are lost, but for this one."""
        job = replace(job, event_sequence=job.event_sequence + 1, record_due=True)
        async with self._database.writing() as connection:
            await connection.execute(jobs.insert(), job_row(job))
            await _add_labels(connection, job)
            for attempt in found:
                await connection.execute(attempts.insert(), asdict(attempt))
            await self._append(connection, job, ["rebuilt"], actor=None, at=job.created_at)

    async def record_saved(self, job: JobRecord) -> None:
        """Its copy is as new as `job`. If it has changed since, another is due: this may have replaced a newer one."""
        is_newer = jobs.c.event_sequence != job.event_sequence
        async with self._database.writing() as connection:
            await connection.execute(update(jobs).where(jobs.c.id == job.id).values(record_due=is_newer))

    async def update_attempt(self, attempt: AttemptRecord, **values: Any) -> None:
        """Note something about an attempt that is over."""
        async with self._database.writing() as connection:
            await connection.execute(update(attempts).where(_is(attempt)).values(values))

    async def find(self, job_id: str, *, project: str | None = None) -> JobRecord | None:
        """A job, of this project if one is given; one that was deleted, too."""
        async with self._database.reading() as connection:
            row = (await connection.execute(_THIS_JOB, {"job_id": job_id})).mappings().one_or_none()
        return job_of(row) if row and project in {None, row["project"]} else None

    async def page(self, filters: Filters, *, limit: int) -> list[JobRecord]:
        """Newest first."""
        query = _JOB.where(jobs.c.project == filters.project, jobs.c.deleted_at.is_(None))
        query = query.where(jobs.c.archived_at.is_not(None) if filters.archived else jobs.c.archived_at.is_(None))
        if filters.state:
            query = query.where(jobs.c.state == filters.state)
        if filters.created_after:
            made_after = filters.created_after - _RESERVED  # the id may be older than the job
            query = query.where(jobs.c.created_at > filters.created_after, jobs.c.id > first_id("job", at=made_after))
        place: ColumnElement[str] = jobs.c.id
        for key, value in filters.labels:
            label = job_labels.alias()
            query = query.join(label, label.c.job_id == jobs.c.id).where(label.c.key == key, label.c.value == value)
            place = label.c.job_id  # or SQLite would go through all jobs, in search of those that have it
        if filters.before:
            query = query.where(place < filters.before)
        return await self._jobs(query.order_by(place.desc()).limit(limit))

    async def queue(self, *, limit: int) -> list[QueuedJob]:
        """Those whose turn comes first."""
        async with self._database.reading() as connection:
            rows = await connection.execute(_QUEUE, {"most": limit})
            return [QueuedJob(**row) for row in rows.mappings()]

    async def contenders(self, *, most: int) -> list[QueuedJob]:
        """Those whose turn comes first among the jobs of their project that want the same accelerator.

        So many of each: however many one project has waiting, it does not hide the jobs of others.
        """
        turns = _TURNS.subquery()
        first = _QUEUED.where(jobs.c.id.in_(select(turns.c.id).where(turns.c.turn <= most)))
        async with self._database.reading() as connection:
            return [QueuedJob(**row) for row in (await connection.execute(first)).mappings()]

    async def active(self) -> list[JobRecord]:
        """Those that hold their workers."""
        return await self._jobs(_JOB.where(jobs.c.state.in_(_ACTIVE)).order_by(jobs.c.id))

    async def with_mlflow_due(self) -> list[JobRecord]:
        """Jobs whose MLflow run is to be closed, or not fully known yet."""
        unknown = jobs.c.mlflow_experiment_id.is_(None) & jobs.c.mlflow_run_id.is_not(None)
        due = union(  # of two indexes; SQLite uses none for an OR of these
            select(jobs.c.id).where(jobs.c.mlflow_due_until.is_not(None)),
            select(jobs.c.id).where(unknown, jobs.c.state.in_(_ACTIVE)),
        )
        return await self._jobs(_JOB.where(jobs.c.id.in_(due)))

    async def with_record_due(self, *, limit: int = 100) -> list[JobRecord]:
        """Jobs whose copy in the object store is out of date."""
        return await self._jobs(_JOB.where(jobs.c.record_due).limit(limit))

    async def with_purge_due(self) -> list[JobRecord]:
        return await self._jobs(_JOB.where(jobs.c.purge_due.is_not(None)))

    async def ahead(self, job: JobRecord) -> int:
        """How many queued jobs have their turn before this one."""
        earlier = tuple_(jobs.c.queued_at, jobs.c.id) < tuple_(literal(job.queued_at, Instant), literal(job.id))
        higher, equal = (
            select(func.count()).select_from(jobs).where(_IS_QUEUED, condition).scalar_subquery()
            for condition in (jobs.c.priority > job.priority, (jobs.c.priority == job.priority) & earlier)
        )
        async with self._database.reading() as connection:
            return await connection.scalar(select(higher + equal)) or 0

    async def counts(self) -> dict[JobState, int]:
        """Jobs that have not ended, by state."""
        query = select(jobs.c.state, func.count()).where(jobs.c.state.in_(_UNFINISHED)).group_by(jobs.c.state)
        async with self._database.reading() as connection:
            return {JobState(state): number for state, number in (await connection.execute(query)).all()}

    async def like(self, cost_key: str, *, limit: int = 5) -> list[JobRecord]:
        """The latest jobs that cost the same and have been seen to train."""
        query = _JOB.where(jobs.c.cost_key == cost_key, jobs.c.progress.is_not(None))
        return await self._jobs(query.order_by(jobs.c.id.desc()).limit(limit))

    async def twins(self, project: str, spec_sha256: str) -> list[str]:
        """Jobs of the same document that have not ended."""
        same = (jobs.c.project == project) & (jobs.c.spec_sha256 == spec_sha256)
        async with self._database.reading() as connection:
            query = select(jobs.c.id).where(same, jobs.c.state.in_(_UNFINISHED)).limit(3)
            return list(await connection.scalars(query))

    async def quotas(self) -> dict[str, tuple[int | None, int | None]]:
        """Workers and jobs that each project may have running; None = as many as there is room for."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(projects))
            return {row.name: (row.max_workers, row.max_jobs) for row in rows}

    async def attempt(self, job_id: str, number: int) -> AttemptRecord | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(_THIS_ATTEMPT, {"job": job_id, "of": number})).mappings().one_or_none()
        return AttemptRecord(**row) if row else None

    async def attempts(self, job_id: str) -> list[AttemptRecord]:
        """Oldest first."""
        return sorted(await self._attempts(attempts.c.job_id == job_id), key=lambda attempt: attempt.number)

    async def attempts_of(self, submission_ids: Sequence[str]) -> list[AttemptRecord]:
        return await self._attempts(attempts.c.submission_id.in_(submission_ids))

    async def with_log_due(self) -> list[AttemptRecord]:
        return await self._attempts(attempts.c.log_due_until.is_not(None))

    async def events(self, job_id: str, *, after: int, limit: int) -> list[EventRecord]:
        query = select(events).where(events.c.job_id == job_id, events.c.sequence > after)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(events.c.sequence).limit(limit))
            return [event_of(row) for row in rows.mappings()]

    async def sequences(self, job_ids: Sequence[str]) -> dict[str, int]:
        """The number of the last event of each of these jobs."""
        query = select(jobs.c.id, jobs.c.event_sequence).where(jobs.c.id.in_(job_ids))
        async with self._database.reading() as connection:
            return {row.id: row.event_sequence for row in await connection.execute(query)}

    async def installation(self) -> str | None:
        """Who we are on an engine that others use, too; None before the first submission."""
        async with self._database.reading() as connection:
            found = await connection.scalar(select(installation.c.id))
            return str(found) if found else None

    async def settle_installation(self, fresh: str) -> str:
        """Be `fresh` from now on, unless a replica was quicker."""
        async with self._database.writing() as connection:
            await connection.execute(self._database.insert(installation).values(id=fresh).on_conflict_do_nothing())
            return str(await connection.scalar(select(installation.c.id)))

    async def ping(self) -> None:
        """Return if the database answers."""
        async with self._database.reading() as connection:
            await connection.execute(select(1))

    async def _append(
        self, connection: AsyncConnection, job: JobRecord, types: Sequence[str], *, actor: str | None, at: datetime
    ) -> None:
        """Number them up to the job's own number, which the update of its row has reserved."""
        for back, type_ in enumerate(reversed(types)):
            numbered = replace(job, event_sequence=job.event_sequence - back)
            row = event_row(numbered, type=type_, actor=actor, at=at)
            await connection.execute(events.insert(), row)
            if self._on_event:
                await self._on_event(connection, EventRecord(**row), job.project)

    async def _jobs(self, query: Select[Any]) -> list[JobRecord]:
        async with self._database.reading() as connection:
            return [job_of(row) for row in (await connection.execute(query)).mappings()]

    async def _attempts(self, *conditions: ColumnElement[bool]) -> list[AttemptRecord]:
        async with self._database.reading() as connection:
            rows = await connection.execute(select(attempts).where(*conditions))
            return [AttemptRecord(**row) for row in rows.mappings()]


async def unfinished_forks(connection: AsyncConnection, job_id: str) -> list[str]:
    """Jobs that start from a checkpoint of this one and have not ended."""
    query = select(jobs.c.id).where(jobs.c.parent_job_id == job_id, jobs.c.state.in_(_UNFINISHED))
    return list(await connection.scalars(query))


async def is_kept(connection: AsyncConnection, job_id: str) -> bool:
    """Whether a job is there and not deleted, nor will be before the end of this transaction."""
    query = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.deleted_at.is_(None))
    return await connection.scalar(query.with_for_update(read=True)) is not None


async def _add_labels(connection: AsyncConnection, job: JobRecord) -> None:
    if job.labels:
        rows = [{"job_id": job.id, "key": key, "value": value} for key, value in job.labels.items()]
        await connection.execute(job_labels.insert(), rows)


def _is(attempt: AttemptRecord) -> ColumnElement[bool]:
    return (attempts.c.job_id == attempt.job_id) & (attempts.c.number == attempt.number)
