"""Rows of projects, API keys and the audit. What is written takes the connection of the caller's transaction."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, Select, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database import Database
from service.database.tables import api_keys, audit, projects
from service.identifiers import first_id
from service.keys.views import ApiKey, AuditRow, Project
from service.web.principal import DEFAULT_PROJECT
from service.web.views import Scope

Query = Select[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which rows of the audit; None = any."""

    actor: str | None = None
    project: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None  # and not then


class KeyStore:
    """Reads return what is shown: there is nothing else to know of these rows, but for the hash of a key."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def ensure_default_project(self, *, now: datetime) -> None:
        """Jobs of a service that knows no projects belong to this one."""
        row = self.database.insert(projects).values(name=DEFAULT_PROJECT, created_at=now).on_conflict_do_nothing()
        async with self.database.writing() as connection:
            await connection.execute(row)

    async def add_project(self, connection: AsyncConnection, project: Project) -> bool:
        """False if there is one of this name."""
        row = self.database.insert(projects).values(project.model_dump()).on_conflict_do_nothing()
        return bool((await connection.execute(row)).rowcount)

    async def set_quotas(self, connection: AsyncConnection, project: Project) -> None:
        quotas = project.model_dump(include={"max_workers", "max_jobs", "max_priority"})
        await connection.execute(update(projects).where(projects.c.name == project.name).values(quotas))

    async def project(self, connection: AsyncConnection, name: str, *, for_change: bool = False) -> Project | None:
        """For a change it is locked until the end of the transaction."""
        query = _locked(select(projects).where(projects.c.name == name), for_change)
        row = (await connection.execute(query)).mappings().one_or_none()
        return Project.model_validate(dict(row)) if row else None

    async def projects(self, *, after: str | None, limit: int) -> Sequence[Project]:
        query = select(projects).order_by(projects.c.name).limit(limit)
        return [
            Project.model_validate(dict(row)) for row in await self._rows(query.where(projects.c.name > (after or "")))
        ]

    async def add_key(self, connection: AsyncConnection, key: ApiKey, *, sha256: str) -> bool:
        """False if there is one of this id."""
        values = {**key.model_dump(), "scopes": json.dumps(sorted(key.scopes)), "sha256": sha256}
        row = self.database.insert(api_keys).values(values).on_conflict_do_nothing()
        return bool((await connection.execute(row)).rowcount)

    async def key(self, connection: AsyncConnection, key_id: str, *, for_change: bool = False) -> ApiKey | None:
        """For a change it is locked until the end of the transaction."""
        query = _locked(select(api_keys).where(api_keys.c.id == key_id), for_change)
        row = (await connection.execute(query)).mappings().one_or_none()
        return _key(row) if row else None

    async def revoke(self, connection: AsyncConnection, key_id: str, *, at: datetime) -> None:
        await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=at))

    async def keys(self, *, project: str | None, revoked: bool, before: str | None, limit: int) -> Sequence[ApiKey]:
        """Newest first; with those that were revoked, or without."""
        query = select(api_keys).order_by(api_keys.c.id.desc()).limit(limit)
        if project is not None:
            query = query.where(api_keys.c.project == project)
        if not revoked:
            query = query.where(api_keys.c.revoked_at.is_(None))
        if before is not None:
            query = query.where(api_keys.c.id < before)
        return [_key(row) for row in await self._rows(query)]

    async def audit(self, wanted: AuditFilter, *, before: str | None, limit: int) -> Sequence[AuditRow]:
        """Newest first."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        filters = ((audit.c.actor, wanted.actor), (audit.c.project, wanted.project), (audit.c.target, wanted.target))
        query = query.where(*(column == value for column, value in filters if value is not None))
        if wanted.since:
            query = query.where(audit.c.id >= first_id("aud", at=wanted.since))
        if wanted.until:
            query = query.where(audit.c.id < first_id("aud", at=wanted.until))
        if before is not None:
            query = query.where(audit.c.id < before)
        return [AuditRow.model_validate(dict(row)) for row in await self._rows(query)]

    async def _rows(self, query: Query) -> Sequence[RowMapping]:
        async with self.database.reading() as connection:
            return (await connection.execute(query)).mappings().all()


def _locked(query: Query, for_change: bool) -> Query:
    return query.with_for_update() if for_change else query


def _key(row: RowMapping) -> ApiKey:
    return ApiKey.model_validate({**row, "scopes": tuple(map(Scope, json.loads(row["scopes"])))})
