"""How many jobs stand where, and how much remains to be done: questions of numbers, for Prometheus alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, exists, func, literal, or_, select, union_all

from service.database import Database
from service.database.tables import attempts, jobs, projects
from service.jobs.lifecycle import JobState
from service.jobs.lookup import EVALUATIONS_DUE, IS_QUEUED, TURN, UNFINISHED
from service.jobs.queueing import BlockedReason

MOST = 10_000  # counted of anything that waits; where there is more, it no longer matters how much


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Jobs that have not ended and stand alike; `since` = when the first of them came into the queue."""

    state: JobState
    kind: str
    accelerator: str
    reason: str | None
    jobs: int
    workers: int
    since: datetime | None


_ALIKE = (jobs.c.state, jobs.c.kind, jobs.c.accelerator, jobs.c.reason)
_GROUPS = (
    select(
        *_ALIKE,
        func.count().label("jobs"),
        func.sum(jobs.c.workers).label("workers"),
        func.min(jobs.c.queued_at).label("since"),
    )
    .where(jobs.c.state.in_(UNFINISHED))
    .group_by(*_ALIKE)
)


async def groups(database: Database) -> list[Group]:
    """All jobs that have not ended."""
    async with database.reading() as connection:
        rows = (await connection.execute(_GROUPS)).mappings().all()
    return [Group(**{**row, "state": JobState(row["state"]), "workers": int(row["workers"])}) for row in rows]


_EXCEEDS_QUOTA = exists().where(
    projects.c.name == jobs.c.project, or_(projects.c.max_workers < jobs.c.workers, projects.c.max_jobs == 0)
)
_HEAD = (
    select(jobs.c.queued_at)
    .where(IS_QUEUED, jobs.c.reason.is_distinct_from(BlockedReason.EXCEEDS_CLUSTER), ~_EXCEEDS_QUOTA)
    .order_by(*TURN)
    .limit(1)
)


async def head_since(database: Database) -> datetime | None:
    """Since when the job waits whose turn is next; None if the queue is empty.

    What exceeds the cluster, or by itself the quota of its project, does not count: it holds up nobody.
    """
    async with database.reading() as connection:
        return await connection.scalar(_HEAD)


def _number(name: str, what: ColumnElement[str], condition: ColumnElement[bool]) -> Select[str, int]:
    some = select(what).where(condition).limit(MOST).subquery()
    return select(literal(name).label("name"), func.count().label("number")).select_from(some)


_BACKLOGS = union_all(
    _number("engine_log", attempts.c.job_id, attempts.c.log_due_until.is_not(None)),
    _number("mlflow", jobs.c.id, jobs.c.mlflow_due_until.is_not(None)),
    _number("record", jobs.c.id, jobs.c.record_due),
    _number("purge", jobs.c.id, jobs.c.purge_due.is_not(None)),
    _number("evaluations", jobs.c.id, EVALUATIONS_DUE & jobs.c.deleted_at.is_(None)),
)


async def backlogs(database: Database) -> Mapping[str, int]:
    """What remains to be done beside running jobs, by kind of work; of each, `MOST` at most are counted."""
    async with database.reading() as connection:
        return {row.name: row.number for row in await connection.execute(_BACKLOGS)}
