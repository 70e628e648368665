"""The REST interface of jobs: what is asked of them. What they leave is in `result_routes.py`."""

from typing import Annotated

from fastapi import Body, Depends, Query, Request, Response

from service.errors import (
    CheckpointNotFound,
    JobGone,
    JobNotFound,
    PreconditionFailed,
    StateConflict,
    StorageUnavailable,
)
from service.jobs.dependencies import (
    IdPrefixFilter,
    JobId,
    LabelFilter,
    ListedProject,
    Lookup,
    MlflowUrl,
    NameFilter,
    OwnerFilter,
    Purge,
    ReadableJob,
    Service,
    Show,
    Submitting,
)
from service.jobs.lifecycle import JobState
from service.jobs.listing import Filters
from service.jobs.planning_views import MOST_QUEUED, Plan, Queue, Usage
from service.jobs.presentation import job_view, queue_entry
from service.jobs.views import CancelRequest, Fork, ForkCreate, Job, JobCreate, JobPage, JobUpdate, Kind
from service.web.audit import CurrentRequester
from service.web.description import sent
from service.web.etags import documented_if_match
from service.web.idempotency import ReservedUlid, documented_idempotency_key
from service.web.instants import InstantField
from service.web.pagination import CursorParameter, LimitParameter, page_of, read_cursor
from service.web.principal import Writer
from service.web.problems import EVERY_POST, WITH_BODY, documented
from service.web.routers import v1_router

router = v1_router("jobs")
_POST = [Depends(documented_idempotency_key)]
_CHANGE = [Depends(documented_if_match)]
_LOOKUP_ERRORS = (JobNotFound, JobGone)
_TAGGED = sent(200, "ETag")
_CREATED = sent(201, "ETag", "Location")
DryRun = Annotated[bool, Query(description="Say what would come of it; write nothing down")]
_VERB = _TAGGED | documented(*_LOOKUP_ERRORS, StateConflict, PreconditionFailed, *EVERY_POST)


@router.post(
    "/jobs",
    status_code=201,
    response_model=Job,
    summary="Submit a job, or plan one with dry_run",
    dependencies=_POST,
    responses={
        200: {"model": Plan, "description": "With dry_run"},
        **_CREATED,
        **documented(CheckpointNotFound, JobGone, *EVERY_POST, StorageUnavailable),
    },
)
async def create_job(
    body: JobCreate,
    submissions: Submitting,
    requester: CurrentRequester,
    _: Writer,
    show: Show,
    reserved: ReservedUlid,
    request: Request,
    dry_run: DryRun = False,
) -> Job | Response:
    if dry_run:
        request.state.nothing_done = True
        return _planned(await submissions.plan(body, requester=requester))
    return show.created(await submissions.submit(body, requester=requester, job_id=reserved and f"job_{reserved}"))


def _planned(plan: Plan) -> Response:
    return Response(plan.model_dump_json(), media_type="application/json")


@router.get("/jobs", summary="List jobs, newest first")
async def list_jobs(
    jobs: Lookup,
    mlflow_url: MlflowUrl,
    project: ListedProject,
    owner: OwnerFilter,
    labels: LabelFilter,
    name: NameFilter = None,
    id_prefix: IdPrefixFilter = "job_",
    state: JobState | None = None,
    kind: Kind | None = None,
    archived: Annotated[bool, Query(description="Those that were archived, instead of the others")] = False,
    created_after: InstantField | None = None,
    cursor: CursorParameter = None,
    limit: LimitParameter = 50,
) -> JobPage:
    filters = Filters(
        project=project,
        owner=owner,
        name=name,
        id_prefix=id_prefix,
        state=state,
        kind=kind,
        labels=labels,
        created_after=created_after,
        archived=archived,
        before=read_cursor(cursor, kind="jobs"),
    )
    page = page_of(await jobs.page(filters, limit=limit + 1), limit=limit, kind="jobs", key=lambda job: job.id)
    return page.shown(JobPage, (job_view(job, mlflow_url=mlflow_url) for job in page.rows))


@router.get("/jobs/{job_id}", summary="Show a job", responses=_TAGGED | documented(*_LOOKUP_ERRORS))
async def get_job(job: ReadableJob, jobs: Lookup, show: Show) -> Job:
    return show(job, queue_position=await jobs.queue_position(job))


@router.patch(
    "/jobs/{job_id}",
    summary="Change name, labels, priority or max_runtime_seconds",
    dependencies=_CHANGE,
    responses=_TAGGED | documented(*_LOOKUP_ERRORS, PreconditionFailed, *WITH_BODY),
)
async def update_job(
    job_id: JobId,
    body: JobUpdate,
    jobs: Service,
    requester: CurrentRequester,
    _: Writer,
    show: Show,
) -> Job:
    return show(await jobs.update(job_id, body, requester=requester))


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    summary="Remove a job that has ended, and what it left if asked to",
    dependencies=_CHANGE,
    responses=documented(*_LOOKUP_ERRORS, StateConflict, PreconditionFailed),
)
async def delete_job(job_id: JobId, jobs: Service, requester: CurrentRequester, _: Writer, purge: Purge = ()) -> None:
    await jobs.delete(job_id, requester=requester, purge=tuple(sorted(set(purge))))


@router.post(
    "/jobs/{job_id}/cancel", summary="End a job, after a last checkpoint", dependencies=_POST + _CHANGE, responses=_VERB
)
async def cancel_job(
    job_id: JobId,
    jobs: Service,
    requester: CurrentRequester,
    _: Writer,
    show: Show,
    body: Annotated[CancelRequest | None, Body()] = None,
) -> Job:
    return show(await jobs.cancel(job_id, body or CancelRequest(), requester=requester))


@router.post(
    "/jobs/{job_id}/pause",
    summary="Free the workers after a checkpoint, until resumed",
    dependencies=_POST + _CHANGE,
    responses=_VERB,
)
async def pause_job(job_id: JobId, jobs: Service, requester: CurrentRequester, _: Writer, show: Show) -> Job:
    return show(await jobs.pause(job_id, requester=requester))


@router.post("/jobs/{job_id}/resume", summary="Queue a paused job again", dependencies=_POST + _CHANGE, responses=_VERB)
async def resume_job(job_id: JobId, jobs: Service, requester: CurrentRequester, _: Writer, show: Show) -> Job:
    return show(await jobs.resume(job_id, requester=requester))


@router.post(
    "/jobs/{job_id}/retry",
    summary="Queue a failed or cancelled job again",
    dependencies=_POST + _CHANGE,
    responses=_VERB | documented(*_LOOKUP_ERRORS, CheckpointNotFound, StorageUnavailable),
)
async def retry_job(job_id: JobId, jobs: Service, requester: CurrentRequester, _: Writer, show: Show) -> Job:
    return show(await jobs.retry(job_id, requester=requester))


@router.post(
    "/jobs/{job_id}/archive", summary="Take a job out of the usual lists", dependencies=_POST + _CHANGE, responses=_VERB
)
async def archive_job(job_id: JobId, jobs: Service, requester: CurrentRequester, _: Writer, show: Show) -> Job:
    return show(await jobs.archive(job_id, requester=requester))


@router.post(
    "/jobs/{job_id}/restore",
    summary="Put an archived job back into the lists",
    dependencies=_POST + _CHANGE,
    responses=_VERB,
)
async def restore_job(job_id: JobId, jobs: Service, requester: CurrentRequester, _: Writer, show: Show) -> Job:
    return show(await jobs.restore(job_id, requester=requester))


@router.post(
    "/jobs/{job_id}/replay",
    summary="Bring MLflow what it lacks of a job that has ended, out of the object store",
    dependencies=_POST + _CHANGE,
    responses=_VERB,
)
async def replay_job(job_id: JobId, jobs: Service, requester: CurrentRequester, _: Writer, show: Show) -> Job:
    return show(await jobs.replay(job_id, requester=requester))


@router.post(
    "/jobs/{job_id}/fork",
    status_code=201,
    response_model=Fork,
    summary="Start a new job from a checkpoint of this one, with changes, or plan it with dry_run",
    dependencies=_POST,
    responses={200: {"model": Plan, "description": "With dry_run"}}
    | _CREATED
    | documented(JobNotFound, CheckpointNotFound, JobGone, StateConflict, *EVERY_POST, StorageUnavailable),
)
async def fork_job(
    job_id: JobId,
    body: ForkCreate,
    submissions: Submitting,
    requester: CurrentRequester,
    _: Writer,
    show: Show,
    reserved: ReservedUlid,
    request: Request,
    dry_run: DryRun = False,
) -> Fork | Response:
    if dry_run:
        request.state.nothing_done = True
        return _planned(await submissions.plan_fork(job_id, body, requester=requester))
    record, changes = await submissions.fork(
        job_id, body, requester=requester, new_job_id=reserved and f"job_{reserved}"
    )
    return Fork(job=show.created(record), changes=changes)


@router.get("/queue", summary="The jobs that wait, in their order, and why")
async def show_queue(jobs: Lookup, project: ListedProject) -> Queue:
    waiting = await jobs.queue_of(project, limit=MOST_QUEUED)
    return Queue(data=tuple(queue_entry(job, position=position) for position, job in waiting))


@router.get("/usage", summary="Who has had how much of the cluster")
async def show_usage(
    jobs: Service,
    project: ListedProject,
    since: Annotated[InstantField | None, Query(description="By default 30 days before `until`")] = None,
    until: Annotated[InstantField | None, Query(description="By default now; jobs that run count up to then")] = None,
) -> Usage:
    return await jobs.usage(project, since=since, until=until)
