"""Who has had how much of the cluster: what the attempts of jobs held of it, and for how long."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Float, case, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from service.database.tables import Instant, attempts, jobs
from service.jobs.planning_views import Usage, Used


async def usage(connection: AsyncConnection, project: str | None, *, since: datetime, until: datetime) -> Usage:
    """Of a project, or of all.

    Workers count from when an attempt is submitted to when it has ended, as many as the job asks for.
    """
    query = _held(since, until).group_by(jobs.c.project, jobs.c.owner, jobs.c.accelerator)
    rows = await connection.execute(query if project is None else query.where(jobs.c.project == project))
    found = [Used.model_validate(dict(row)) for row in rows.mappings()]
    found.sort(key=lambda used: (used.accelerator != "gpu", -used.worker_seconds))
    return Usage(since=since, until=until, data=tuple(found))


def _held(since: datetime, until: datetime) -> Any:
    begin, end = attempts.c.submitted_at, attempts.c.ended_at
    seconds = _seconds(
        case((begin < since, _at(since)), else_=begin), case((end.is_(None) | (end > until), _at(until)), else_=end)
    )
    return (
        select(
            jobs.c.project,
            jobs.c.owner.label("created_by"),
            func.max(jobs.c.owner_name).label("created_by_name"),
            jobs.c.accelerator,
            func.count(jobs.c.id.distinct()).label("jobs"),
            func.sum(seconds * jobs.c.workers, type_=Float).label("worker_seconds"),
        )
        .join_from(attempts, jobs)
        .where(begin < until, end.is_(None) | (end > since))
    )


def _at(instant: datetime) -> ColumnElement[datetime]:
    return literal(instant, Instant)


class _seconds(GenericFunction[float]):  # noqa: N801 (functions of SQL are called so)
    """From one instant to another. The two databases have nothing in common for that."""

    type = Float()
    inherit_cache = True


@compiles(_seconds, "sqlite")
def _of_sqlite(element: _seconds, compiler: SQLCompiler, **options: Any) -> str:
    begin, end = (compiler.process(clause, **options) for clause in element.clauses)
    return f"((julianday({end}) - julianday({begin})) * 86400.0)"


@compiles(_seconds, "postgresql")
def _of_postgres(element: _seconds, compiler: SQLCompiler, **options: Any) -> str:
    begin, end = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CAST(extract(epoch FROM CAST({end} AS timestamptz) - CAST({begin} AS timestamptz)) AS double precision)"
