"""Projects, API keys and audit rows as they cross the wire."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, Strict

from service.priorities import Priority
from service.web.instants import InstantField
from service.web.views import PLAIN_TEXT, Changes, PageOf, Scope, View
from workers.contract.document import Document

ProjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Quota = Annotated[int | None, Field(ge=0, le=10**6, description="null = no limit")]


PriorityField = Annotated[Priority, Field(strict=False)]
_MaxPriority = Annotated[PriorityField, Field(description="The highest that its jobs may have")]


class ProjectCreate(Document):
    """A project, which cannot be renamed or removed: jobs and audit rows keep its name."""

    name: ProjectName
    max_workers: Quota = None
    max_jobs: Quota = None
    max_priority: _MaxPriority = Priority.HIGH


class ProjectChange(Changes):
    """What is not given stays; null takes a quota away."""

    max_workers: Quota = None
    max_jobs: Quota = None
    max_priority: _MaxPriority = Priority.HIGH


class Project(View):
    """Jobs of a project see, count against and compete with each other."""

    name: str
    max_workers: int | None  # of its jobs on the engine, together
    max_jobs: int | None  # on the engine at a time
    max_priority: _MaxPriority = Priority.HIGH
    created_at: datetime


class ProjectPage(PageOf[Project]):
    """Projects by name."""


class ApiKeyCreate(Document):
    """A key for one project."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=PLAIN_TEXT)] | None = None
    project: Annotated[ProjectName | None, Field(description="By default the one this request is made in")] = None
    scopes: Annotated[frozenset[Annotated[Scope, Strict(False)]], Strict(False), Field(fail_fast=True, min_length=1)]
    expires_at: InstantField | None = None


class ApiKey(View):
    """A key, as much of it as can be shown: `prefix` is how it begins."""

    id: str
    name: str | None
    project: str
    prefix: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None  # to the minute


class NewApiKey(ApiKey):
    """A key with its secret, which is shown this once and not kept."""

    key: str


class ApiKeyPage(PageOf[ApiKey]):
    """API keys, newest first."""


class AuditRow(View):
    """Someone changed something, or (`refused`) tried to."""

    id: str
    at: datetime
    actor: str
    project: str
    action: str
    target: str | None
    method: str | None
    path: str | None
    status: int | None
    request_id: str | None
    client: str | None
    before_sha256: str | None
    after_sha256: str | None


class AuditPage(PageOf[AuditRow]):
    """Rows of the audit, newest first."""
