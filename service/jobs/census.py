"""How many jobs stand where, and how much remains to be done: questions of numbers, for Prometheus alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, func, literal, select, union_all

from service.database import Database
from service.database.tables import attempts, jobs
from service.jobs.lifecycle import JobState
from service.jobs.lookup import EVALUATIONS_DUE, UNFINISHED

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
