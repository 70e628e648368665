"""The REST interface of projects, API keys and the audit."""

from typing import Annotated

from fastapi import Depends, Path, Query, Response
from pydantic import Field

from service.errors import (
    ApiKeyNotFound,
    IdempotencyAnswerNotKept,
    ProjectExists,
    ProjectNotFound,
)
from service.keys.store import AuditFilter
from service.keys.usecases import Keys
from service.keys.views import (
    ApiKey,
    ApiKeyCreate,
    ApiKeyPage,
    AuditPage,
    NewApiKey,
    Project,
    ProjectChange,
    ProjectCreate,
    ProjectPage,
)
from service.web.audit import CurrentRequester
from service.web.description import sent
from service.web.idempotency import ReservedUlid, documented_idempotency_key
from service.web.instants import InstantField
from service.web.pagination import CursorParameter, LimitParameter, page_of, read_cursor
from service.web.principal import Admin
from service.web.problems import EVERY_POST, WITH_BODY, documented
from service.web.routers import of_state, v1_router
from service.web.views import PLAIN_TEXT

router = v1_router("administration")

Service = Annotated[Keys, of_state("keys")]
Name = Annotated[str, Path(max_length=64, pattern=PLAIN_TEXT, description="The name of a project")]
KeyId = Annotated[str, Path(max_length=64, pattern=PLAIN_TEXT, description="As given at creation; not the key itself")]
Wanted = Annotated[Annotated[str, Field(max_length=200, pattern=PLAIN_TEXT)] | None, Query()]
_POST = [Depends(documented_idempotency_key)]


@router.post(
    "/projects",
    status_code=201,
    summary="Create a project",
    dependencies=_POST,
    responses=sent(201, "Location") | documented(*EVERY_POST, ProjectExists),
)
async def create_project(
    _: Admin, body: ProjectCreate, keys: Service, requester: CurrentRequester, response: Response
) -> Project:
    project = await keys.create_project(body, requester=requester)
    response.headers["Location"] = f"/v1/projects/{project.name}"
    return project


@router.get("/projects", summary="List projects by name")
async def list_projects(
    _: Admin, keys: Service, cursor: CursorParameter = None, limit: LimitParameter = 50
) -> ProjectPage:
    found = await keys.store.projects(after=read_cursor(cursor, kind="projects"), limit=limit + 1)
    page = page_of(found, limit=limit, kind="projects", key=lambda project: project.name)
    return page.shown(ProjectPage, page.rows)


@router.get("/projects/{name}", summary="Show a project", responses=documented(ProjectNotFound))
async def get_project(_: Admin, name: Name, keys: Service) -> Project:
    return await keys.find_project(name)


@router.patch(
    "/projects/{name}", summary="Change a project's limits", responses=documented(*WITH_BODY, ProjectNotFound)
)
async def change_project(
    _: Admin, name: Name, body: ProjectChange, keys: Service, requester: CurrentRequester
) -> Project:
    return await keys.change_project(name, body, requester=requester)


@router.post(
    "/api-keys",
    status_code=201,
    summary="Create an API key, and see it for the only time",
    dependencies=_POST,
    responses=sent(201, "Location") | documented(*EVERY_POST, IdempotencyAnswerNotKept),
)
async def create_api_key(
    admin: Admin, body: ApiKeyCreate, keys: Service, requester: CurrentRequester, ulid: ReservedUlid, response: Response
) -> NewApiKey:
    key = await keys.create_key(body, project=admin.project, requester=requester, reserved_ulid=ulid)
    response.headers["Location"] = f"/v1/api-keys/{key.id}"
    response.headers["Cache-Control"] = "no-store"  # no Idempotency-Key keeps the secret either
    return key


@router.get("/api-keys", summary="List API keys, newest first")
async def list_api_keys(
    _: Admin,
    keys: Service,
    project: Wanted = None,
    revoked: Annotated[bool, Query(description="With those that were revoked")] = False,
    cursor: CursorParameter = None,
    limit: LimitParameter = 50,
) -> ApiKeyPage:
    before = read_cursor(cursor, kind="api-keys")
    found = await keys.store.keys(project=project, revoked=revoked, before=before, limit=limit + 1)
    page = page_of(found, limit=limit, kind="api-keys", key=lambda key: key.id)
    return page.shown(ApiKeyPage, page.rows)


@router.get("/api-keys/{key_id}", summary="Show an API key", responses=documented(ApiKeyNotFound))
async def get_api_key(_: Admin, key_id: KeyId, keys: Service) -> ApiKey:
    return await keys.find_key(key_id)


@router.delete(
    "/api-keys/{key_id}",
    status_code=204,
    summary="Revoke an API key",
    description="It stops working within five seconds.",
    responses=documented(ApiKeyNotFound),
)
async def revoke_api_key(_: Admin, key_id: KeyId, keys: Service, requester: CurrentRequester) -> None:
    await keys.revoke_key(key_id, requester=requester)


@router.get("/audit", summary="Who changed what, newest first")
async def list_audit(
    _: Admin,
    keys: Service,
    actor: Wanted = None,
    project: Wanted = None,
    target: Wanted = None,
    since: InstantField | None = None,
    until: Annotated[InstantField | None, Query(description="Rows from before that")] = None,
    cursor: CursorParameter = None,
    limit: LimitParameter = 50,
) -> AuditPage:
    wanted = AuditFilter(actor=actor, project=project, target=target, since=since, until=until)
    found = await keys.store.audit(wanted, before=read_cursor(cursor, kind="audit"), limit=limit + 1)
    page = page_of(found, limit=limit, kind="audit", key=lambda row: row.id)
    return page.shown(AuditPage, page.rows)
