"""What is known of jobs: questions to the database. Those that are asked all the time take an index."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Float,
    Select,
    bindparam,
    case,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)

from service.cluster.base import Resources
from service.database import Database
from service.database.tables import Instant, attempts, events, installation, job_labels, jobs, projects
from service.errors import JobGone, JobNotFound
from service.jobs.lifecycle import JobState
from service.jobs.listing import Filters, listed
from service.jobs.queueing import Quota
from service.jobs.records import AttemptRecord, EventRecord, JobRecord, QueuedJob
from service.jobs.rows import JOB_FIELDS, event_of, job_of
from service.priorities import Priority

_Query = TypeVar("_Query", bound=Select[Any])

ACTIVE = tuple(state for state in JobState if state.is_active)
UNFINISHED = tuple(state for state in JobState if not state.is_terminal)
_NOT_BEGUN = (JobState.QUEUED, JobState.PAUSED)
_NOT_SUCCEEDED = tuple(state for state in JobState if state is not JobState.SUCCEEDED)
COLUMNS = tuple(jobs.c[name] for name in JOB_FIELDS)
_JOB = select(*COLUMNS)
# Spelt as in their partial indexes, or those are not used.
IS_QUEUED = jobs.c.state == literal_column(f"'{JobState.QUEUED}'")
_IS_DATASET_DUE = text("jobs.dataset IS NULL AND jobs.kind IN ('train', 'import')")
EVALUATIONS_DUE: ColumnElement[bool] = literal_column("jobs.evaluations_due")
_COMPARISON_DUE: ColumnElement[bool] = literal_column("jobs.comparison_due")
TURN = (jobs.c.priority.desc(), jobs.c.queued_at, jobs.c.id)
_QUEUED = select(*(jobs.c[field.name] for field in fields(QueuedJob)))
_QUEUE = _QUEUED.where(IS_QUEUED).order_by(*TURN).limit(bindparam("most"))
_PLACES = select(jobs.c.id, func.row_number().over(order_by=TURN).label("place")).where(IS_QUEUED).subquery()
_QUEUE_OF_PROJECT = (
    _QUEUED.add_columns(_PLACES.c.place)
    .join(_PLACES, _PLACES.c.id == jobs.c.id)
    .where(IS_QUEUED, jobs.c.project == bindparam("project"))
    .order_by(_PLACES.c.place)
    .limit(bindparam("most"))
)
_ROOM = case((jobs.c.accelerator == "cpu", bindparam("cpus", type_=Float)), else_=bindparam("gpus", type_=Float))
_CANNOT_START = or_(jobs.c.workers > _ROOM, jobs.c.workers > func.coalesce(projects.c.max_workers, jobs.c.workers))
_RIVALS = (jobs.c.project, jobs.c.accelerator, _CANNOT_START)
_TURNS = (
    select(jobs.c.id, func.row_number().over(partition_by=_RIVALS, order_by=TURN).label("turn"))
    .outerjoin_from(jobs, projects, projects.c.name == jobs.c.project)
    .where(IS_QUEUED)
    .subquery()
)
_CONTENDERS = _QUEUED.where(jobs.c.id.in_(select(_TURNS.c.id).where(_TURNS.c.turn <= bindparam("most"))))
THIS_JOB = _JOB.where(jobs.c.id == bindparam("job_id"))
_THIS_ATTEMPT = select(attempts).where(attempts.c.job_id == bindparam("job"), attempts.c.number == bindparam("of"))
_MOST_DUE, _MOST_LIKE = 100, 5  # that are looked at, at a time


def where_dataset_due(query: _Query) -> _Query:
    """Of those jobs that have begun and have not said so far which image set they are about."""
    query = query.where(_IS_DATASET_DUE, jobs.c.state.not_in(_NOT_BEGUN))
    # Told nothing, SQLite goes through all jobs of these kinds, or of the project.
    return query.with_hint(jobs, "INDEXED BY jobs_by_dataset_due", "sqlite")


class JobLookup:
    """Reads what the store wrote."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, job_id: str, *, project: str | None = None) -> JobRecord | None:
        """A job, of this project if one is given; one that was deleted, too."""
        async with self._database.reading() as connection:
            row = (await connection.execute(THIS_JOB, {"job_id": job_id})).mappings().one_or_none()
        return job_of(row) if row and project in {None, row["project"]} else None

    async def get(self, job_id: str, *, project: str) -> JobRecord:
        """A job of this project.

        Raises:
            JobNotFound: there is none.
            JobGone: it was deleted.
        """
        job = await self.find(job_id, project=project)
        if job is None:
            raise JobNotFound(f"there is no job {job_id}")
        if job.deleted_at:
            raise JobGone(f"{job_id} was deleted at {job.deleted_at.isoformat()}")
        return job

    async def page(self, filters: Filters, *, limit: int) -> list[JobRecord]:
        """Newest first."""
        return await self._jobs(listed(_JOB, filters, dialect=self._database.dialect).limit(limit))

    async def queue(self, *, limit: int) -> list[QueuedJob]:
        """Those whose turn comes first."""
        async with self._database.reading() as connection:
            rows = await connection.execute(_QUEUE, {"most": limit})
            return [QueuedJob(**row) for row in rows.mappings()]

    async def queue_of(self, project: str | None, *, limit: int) -> list[tuple[int, QueuedJob]]:
        """Those of a project, or of all, whose turn comes first, with their places among the jobs of all; 1 = next."""
        if project is None:
            return list(enumerate(await self.queue(limit=limit), start=1))
        async with self._database.reading() as connection:
            rows = await connection.execute(_QUEUE_OF_PROJECT, {"project": project, "most": limit})
            found = [dict(row) for row in rows.mappings()]
        return [(row.pop("place"), QueuedJob(**row)) for row in found]

    async def contenders(self, *, most: int, total: Resources) -> list[QueuedJob]:
        """Those whose turn comes first among the jobs of their project that want the same accelerator.

        So many of each: however many one project has waiting, it does not hide the jobs of others. And so many each of
        those that may start sometime and of those that ask for more than the cluster or their project's quota has in
        `total`: the latter are to be told why they wait, and hide none of the former.
        """
        limits = {"most": most, "cpus": total.cpus, "gpus": total.gpus}
        async with self._database.reading() as connection:
            return [QueuedJob(**row) for row in (await connection.execute(_CONTENDERS, limits)).mappings()]

    async def active(self) -> list[JobRecord]:
        """Those that hold their workers."""
        return await self._jobs(_JOB.where(jobs.c.state.in_(ACTIVE)).order_by(jobs.c.id))

    async def with_mlflow_due(self, *, after: str = "", limit: int = _MOST_DUE) -> list[JobRecord]:
        """Jobs that have ended and whose MLflow run is to be completed and closed, by their ids."""
        query = _JOB.where(jobs.c.mlflow_due_until.is_not(None), jobs.c.id > after)
        return await self._jobs(query.order_by(jobs.c.id).limit(limit))

    async def with_experiment_due(self) -> list[JobRecord]:
        """Active jobs that have an MLflow run, and nobody has asked yet in which experiment."""
        unknown = jobs.c.mlflow_experiment_id.is_(None) & jobs.c.mlflow_run_id.is_not(None)
        return await self._jobs(_JOB.where(unknown, jobs.c.state.in_(ACTIVE)))

    async def with_record_due(self) -> list[JobRecord]:
        """Jobs whose copy in the object store is out of date."""
        return await self._jobs(_JOB.where(jobs.c.record_due).limit(_MOST_DUE))

    async def with_purge_due(self, *, after: str = "", limit: int = _MOST_DUE) -> list[JobRecord]:
        """Jobs of which something is to be removed from the object store, by their ids."""
        query = _JOB.where(jobs.c.purge_due.is_not(None), jobs.c.id > after)
        return await self._jobs(query.order_by(jobs.c.id).limit(limit))

    async def with_dataset_due(self, *, project: str | None = None) -> list[JobRecord]:
        """Jobs that have begun, and may have said which image set they are about."""
        query = where_dataset_due(_JOB)
        query = query.where(jobs.c.project == project) if project else query
        return await self._jobs(query.order_by(jobs.c.id).limit(_MOST_DUE))

    async def with_evaluations_due(self, *, after: str = "", limit: int = 100) -> list[JobRecord]:
        """Trainings that may have a checkpoint which is to be evaluated, by their ids; none that has yet to begin."""
        has_yet_to_begin = (jobs.c.attempt == 0) & jobs.c.state.in_(_NOT_BEGUN)
        query = _JOB.where(EVALUATIONS_DUE, jobs.c.deleted_at.is_(None), ~has_yet_to_begin, jobs.c.id > after)
        return await self._jobs(query.order_by(jobs.c.id).limit(limit))

    async def with_comparison_due(self, *, after: str = "", limit: int = 100) -> list[JobRecord]:
        """Trainings that succeeded and are to be compared with their control, which did, too, or is there no more.

        One that has ended otherwise may be retried: until then nobody need look at the two.
        """
        control = jobs.alias()
        is_to_come = (control.c.id == jobs.c.control_job_id) & control.c.deleted_at.is_(None)
        waits = exists().where(is_to_come, control.c.state.in_(_NOT_SUCCEEDED))
        is_done = jobs.c.state.not_in(_NOT_SUCCEEDED)  # with =, SQLite would go through all that have succeeded
        query = _JOB.where(_COMPARISON_DUE, jobs.c.deleted_at.is_(None), is_done, ~waits, jobs.c.id > after)
        return await self._jobs(query.order_by(jobs.c.id).limit(limit))

    async def labelled_unfinished(self, project: str, key: str, values: Sequence[str]) -> bool:
        """Whether a job of a project with one of these values of a label has not ended."""
        of_these = (job_labels.c.key == key) & job_labels.c.value.in_(values) & (jobs.c.project == project)
        labelled = job_labels.join(jobs, job_labels.c.job_id == jobs.c.id)
        query = select(exists().select_from(labelled).where(of_these, jobs.c.state.in_(UNFINISHED)))
        async with self._database.reading() as connection:
            return bool(await connection.scalar(query))

    async def ahead(self, job: JobRecord) -> int:
        """How many queued jobs have their turn before this one."""
        earlier = tuple_(jobs.c.queued_at, jobs.c.id) < tuple_(literal(job.queued_at, Instant), literal(job.id))
        higher, equal = (
            select(func.count()).select_from(jobs).where(IS_QUEUED, condition).scalar_subquery()
            for condition in (jobs.c.priority > job.priority, (jobs.c.priority == job.priority) & earlier)
        )
        async with self._database.reading() as connection:
            return await connection.scalar(select(higher + equal)) or 0

    async def queue_position(self, job: JobRecord) -> int | None:
        """1 = next; None if it is not queued."""
        return await self.ahead(job) + 1 if job.state is JobState.QUEUED else None

    async def like(self, cost_key: str) -> list[JobRecord]:
        """The latest jobs that cost the same and have been seen to train: those that go on, then those that ended."""
        seen = _JOB.where(jobs.c.cost_key == cost_key, jobs.c.progress.is_not(None)).limit(_MOST_LIKE)
        go_on = await self._jobs(seen.where(jobs.c.ended_at.is_(None)).order_by(jobs.c.id.desc()))
        ended = await self._jobs(seen.where(jobs.c.ended_at.is_not(None)).order_by(jobs.c.ended_at.desc()))
        alike = {job.id: job for job in (*go_on, *ended)}  # one may end between the two
        return list(alike.values())[:_MOST_LIKE]

    async def twins(self, project: str, spec_sha256: str) -> list[str]:
        """Jobs of the same document that have not ended."""
        same = (jobs.c.project == project) & (jobs.c.spec_sha256 == spec_sha256)
        async with self._database.reading() as connection:
            query = select(jobs.c.id).where(same, jobs.c.state.in_(UNFINISHED)).limit(3)
            return list(await connection.scalars(query))

    async def upload_readers(self, job_ids: Sequence[str]) -> list[str]:
        """Which of these may still read the uploads that they name: they have not ended, or evaluations follow them."""
        due = EVALUATIONS_DUE & jobs.c.deleted_at.is_(None)
        query = select(jobs.c.id).where(jobs.c.id.in_(job_ids), or_(jobs.c.state.in_(UNFINISHED), due))
        async with self._database.reading() as connection:
            return list(await connection.scalars(query.order_by(jobs.c.id))) if job_ids else []

    async def readers(self, job_ids: Sequence[str]) -> list[str]:
        """Which of these may still read what they refer to: they have not ended, or failed and may be tried again."""
        retriable = (jobs.c.state == JobState.FAILED) & jobs.c.deleted_at.is_(None)
        query = select(jobs.c.id).where(jobs.c.id.in_(job_ids), or_(jobs.c.state.in_(UNFINISHED), retriable))
        async with self._database.reading() as connection:
            return list(await connection.scalars(query)) if job_ids else []

    async def quotas(self) -> dict[str, Quota]:
        """Of each project."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(projects))
            return {row.name: Quota(max_workers=row.max_workers, max_jobs=row.max_jobs) for row in rows}

    async def max_priority(self, project: str) -> Priority:
        """The highest class that jobs of a project may have."""
        query = select(projects.c.max_priority).where(projects.c.name == project)
        async with self._database.reading() as connection:
            return Priority(await connection.scalar(query) or Priority.HIGH)

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

    async def has_jobs(self) -> bool:
        """Whether there has ever been any."""
        async with self._database.reading() as connection:
            return await connection.scalar(select(jobs.c.id).limit(1)) is not None

    async def ping(self) -> None:
        """Return if the database answers."""
        async with self._database.reading() as connection:
            await connection.execute(select(1))

    async def _jobs(self, query: Select[Any]) -> list[JobRecord]:
        async with self._database.reading() as connection:
            return [job_of(row) for row in (await connection.execute(query)).mappings()]

    async def _attempts(self, *conditions: ColumnElement[bool]) -> list[AttemptRecord]:
        async with self._database.reading() as connection:
            rows = await connection.execute(select(attempts).where(*conditions))
            return [AttemptRecord(**row) for row in rows.mappings()]
