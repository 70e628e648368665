"""Jobs in the database. A job's change and the event that tells of it are one transaction."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database import Database
from service.database.tables import attempts, events, jobs
from service.jobs.records import AttemptRecord, EventRecord, JobRecord
from service.jobs.views import JobState
from workers.contract.records import Progress

_UNFINISHED = tuple(state for state in JobState if not state.is_terminal)


class JobStore:
    """The only place that knows the queries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, job: JobRecord) -> None:
        """Write a new job down."""
        async with self._database.writing() as connection:
            await connection.execute(jobs.insert().values(_row(job)))
            await _append_event(connection, job, type="created", at=job.created_at)

    async def apply(
        self,
        job: JobRecord,
        changed: JobRecord,
        *,
        event: str | None,
        at: datetime,
        changed_attempts: Sequence[AttemptRecord] = (),
    ) -> bool:
        """Write what `changed` has otherwise than `job`; False if the job has moved on since `job` was read."""
        before, after = _row(job), _row(changed)
        values = {name: value for name, value in after.items() if value != before[name]}
        if not values and not changed_attempts:
            return True
        unmoved = (jobs.c.id == job.id) & (jobs.c.state == job.state) & (jobs.c.attempt == job.attempt)
        async with self._database.writing() as connection:
            result = await connection.execute(update(jobs).where(unmoved).values(values or {"id": job.id}))
            if result.rowcount == 0:
                return False
            for attempt in changed_attempts:
                row = asdict(attempt)
                statement = insert(attempts).values(row)
                await connection.execute(statement.on_conflict_do_update(["job_id", "number"], set_=row))
            if event:
                await _append_event(connection, changed, type=event, at=at)
        return True

    async def mark_submitted(self, attempt: AttemptRecord, *, at: datetime) -> None:
        """The engine has it, whatever became of the job meanwhile."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(attempts).where(_is(attempt), attempts.c.submitted_at.is_(None)).values(submitted_at=at)
            )

    async def log_done(self, attempt: AttemptRecord) -> None:
        """Its log is copied, or given up."""
        async with self._database.writing() as connection:
            await connection.execute(update(attempts).where(_is(attempt)).values(log_due_until=None))

    async def find(self, job_id: str) -> JobRecord | None:
        found = await self._jobs(jobs.c.id == job_id)
        return found[0] if found else None

    async def page(self, *, state: JobState | None, before: str | None, limit: int) -> list[JobRecord]:
        """Newest first, beginning behind the id `before`."""
        conditions = [jobs.c.state == state] if state else []
        conditions += [jobs.c.id < before] if before else []
        return await self._jobs(*conditions, newest_first=True, limit=limit)

    async def unfinished(self) -> list[JobRecord]:
        """Oldest first."""
        return await self._jobs(jobs.c.state.in_(_UNFINISHED))

    async def with_mlflow_due(self) -> list[JobRecord]:
        """Jobs whose MLflow run is to be closed, or not fully known yet."""
        unknown = jobs.c.mlflow_experiment_id.is_(None) & jobs.c.mlflow_run_id.is_not(None)
        return await self._jobs(jobs.c.mlflow_due_until.is_not(None) | (unknown & jobs.c.state.in_(_UNFINISHED)))

    async def attempt(self, job_id: str, number: int) -> AttemptRecord | None:
        found = await self._attempts(attempts.c.job_id == job_id, attempts.c.number == number)
        return found[0] if found else None

    async def with_log_due(self) -> list[AttemptRecord]:
        return await self._attempts(attempts.c.log_due_until.is_not(None))

    async def events(self, job_id: str, *, after: int, limit: int) -> list[EventRecord]:
        query = select(events).where(events.c.job_id == job_id, events.c.sequence > after)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(events.c.sequence).limit(limit))
            return [EventRecord(**{**row, "state": JobState(row["state"])}) for row in rows.mappings()]

    async def ping(self) -> None:
        """Return if the database answers."""
        async with self._database.reading() as connection:
            await connection.execute(select(1))

    async def _jobs(
        self, *conditions: ColumnElement[bool], newest_first: bool = False, limit: int | None = None
    ) -> list[JobRecord]:
        order = jobs.c.id.desc() if newest_first else jobs.c.id
        async with self._database.reading() as connection:
            rows = await connection.execute(select(jobs).where(*conditions).order_by(order).limit(limit))
            return [_job(row) for row in rows.mappings()]

    async def _attempts(self, *conditions: ColumnElement[bool]) -> list[AttemptRecord]:
        async with self._database.reading() as connection:
            rows = await connection.execute(select(attempts).where(*conditions))
            return [AttemptRecord(**row) for row in rows.mappings()]


async def _append_event(connection: AsyncConnection, job: JobRecord, *, type: str, at: datetime) -> None:  # noqa: A002
    """Number it behind the last one; the writing transaction keeps others from taking the same number."""
    last = await connection.scalar(select(func.max(events.c.sequence)).where(events.c.job_id == job.id))
    event = EventRecord(
        job_id=job.id,
        sequence=(last or 0) + 1,
        type=type,
        state=job.state,
        attempt=job.attempt,
        reason=job.reason,
        message=job.message,
        created_at=at,
    )
    await connection.execute(events.insert().values(asdict(event)))


def _is(attempt: AttemptRecord) -> ColumnElement[bool]:
    return (attempts.c.job_id == attempt.job_id) & (attempts.c.number == attempt.number)


def _row(job: JobRecord) -> dict[str, Any]:
    row = {field.name: getattr(job, field.name) for field in fields(job)}
    return {**row, "progress": job.progress.model_dump_json() if job.progress else None}


def _job(row: RowMapping) -> JobRecord:
    progress = Progress.model_validate_json(row["progress"]) if row["progress"] else None
    return JobRecord(**{**row, "state": JobState(row["state"]), "progress": progress})
