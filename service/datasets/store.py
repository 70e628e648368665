"""Which image sets a project has. The rows are those of its jobs: each says which image set it is about."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, case, exists, func, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database import Database
from service.database.tables import jobs
from service.jobs.lookup import COLUMNS, EVALUATIONS_DUE, where_dataset_due
from service.jobs.records import JobRecord
from service.jobs.rows import job_of

_HAS_ONE = jobs.c.dataset > literal_column("''")  # spelt as in the partial indexes, or those are not used
_FIRST = func.min(jobs.c.id)
_USES = (jobs.c.kind != "import") & jobs.c.deleted_at.is_(None)
_LAST_IMPORT = func.max(case((jobs.c.kind == "import", jobs.c.id)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectDataset:
    """An image set of a project, the first of its jobs that was about it, and the one to ask for a report."""

    digest: str
    first_job_id: str
    job: JobRecord


class DatasetStore:
    """Questions about jobs, by image set."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def page(
        self, *, project: str, digest_prefix: str = "", before: str | None, limit: int
    ) -> list[ProjectDataset]:
        """Those that came last first; `before` is the first job of the one that the page before ended with."""
        query = _project_datasets(project)
        if digest_prefix:
            query = query.where(jobs.c.dataset.startswith(digest_prefix, autoescape=True))
        query = query.having(before > _FIRST) if before else query
        return await self._read(query.order_by(_FIRST.desc()).limit(limit))

    async def find(self, digest: str, *, project: str) -> ProjectDataset | None:
        return next(iter(await self._read(_project_datasets(project).where(jobs.c.dataset == digest))), None)

    async def users(self, connection: AsyncConnection, digest: str, *, project: str) -> list[str]:
        """Jobs that name it, or whose evaluations to come do, and have not been deleted.

        An import refers to what it has made no more.
        """
        follows = (jobs.c.project == project) & _is_to_be_measured_at(digest)
        query = select(jobs.c.id).where(or_(_ours(digest, project) & _USES, follows)).order_by(jobs.c.id).limit(4)
        return list(await connection.scalars(query))

    async def forget(self, connection: AsyncConnection, digest: str, *, project: str) -> None:
        """The project has it no more, whoever brought it, but for its users: one may come at the same moment."""
        brought = _ours(digest, project) & ~_USES
        await connection.execute(update(jobs).where(brought).values(dataset="", record_due=True))

    async def is_known(self, digest: str) -> bool:
        """Whether any job of any project is about it."""
        async with self.database.reading() as connection:
            return bool(await connection.scalar(select(exists().where(jobs.c.dataset == digest, _HAS_ONE))))

    async def may_appear(self, digest: str) -> bool:
        """Whether a job may be about it soon: one has begun and has not said so far, or an evaluation is to come."""
        has_yet_to_say = where_dataset_due(select(jobs.c.id)).exists()
        async with self.database.reading() as connection:
            query = select(or_(has_yet_to_say, exists().where(_is_to_be_measured_at(digest))))
            return bool(await connection.scalar(query))

    async def _read(self, query: Select[*tuple[str, str, str | None]]) -> list[ProjectDataset]:
        async with self.database.reading() as connection:
            found = (await connection.execute(query)).all()
            by_id = await _jobs(connection, [importer or first for _, first, importer in found])
        return [
            ProjectDataset(digest=digest, first_job_id=first, job=by_id[importer or first])
            for digest, first, importer in found
        ]


def _ours(digest: str, project: str) -> ColumnElement[bool]:
    return (jobs.c.project == project) & (jobs.c.dataset == digest)


def _is_to_be_measured_at(digest: str) -> ColumnElement[bool]:
    """Of trainings whose evaluations to come hold it out. That is JSON; what else it has is no digest of images."""
    return EVALUATIONS_DUE & jobs.c.deleted_at.is_(None) & jobs.c.evaluations.contains(digest)


def _project_datasets(project: str) -> Select[*tuple[str, str, str | None]]:
    query = select(jobs.c.dataset, _FIRST, _LAST_IMPORT).where(jobs.c.project == project, _HAS_ONE)
    return query.group_by(jobs.c.dataset)


async def _jobs(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, JobRecord]:
    rows = (await connection.execute(select(*COLUMNS).where(jobs.c.id.in_(ids)))).mappings()
    return {job.id: job for job in map(job_of, rows)}
