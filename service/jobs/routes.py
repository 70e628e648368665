"""The REST interface of jobs."""

from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from service.errors import (
    AttemptNotFound,
    DatabaseUnavailable,
    InvalidRequest,
    JobNotFound,
    MalformedRequest,
    NotAuthenticated,
    SampleNotFound,
    StateConflict,
    StorageUnavailable,
)
from service.jobs.presentation import checkpoint_view, event_view, job_view
from service.jobs.records import JobRecord
from service.jobs.usecases import Jobs
from service.jobs.views import (
    CheckpointList,
    EventPage,
    Job,
    JobCreate,
    JobPage,
    JobState,
    Log,
    Preset,
    PresetList,
    SampleList,
)
from service.web.auth import documented_key
from service.web.problems import documented
from workers.contract.presets import PRESETS

router = APIRouter(
    prefix="/v1",
    tags=["jobs"],
    dependencies=[Depends(documented_key)],
    responses=documented(NotAuthenticated, InvalidRequest, DatabaseUnavailable),
)


def _jobs(request: Request) -> Jobs:
    return cast(Jobs, request.state.jobs)


def _mlflow_url(request: Request) -> str:
    return cast(str, request.state.mlflow_url)


Service = Annotated[Jobs, Depends(_jobs)]
MlflowUrl = Annotated[str, Depends(_mlflow_url)]
JobId = Annotated[str, Path(description="As given at submission")]
Number = Annotated[int, Query(ge=0, lt=2**63)]
_JOB = documented(JobNotFound)


@router.post(
    "/jobs",
    status_code=201,
    summary="Submit a training job",
    responses=documented(MalformedRequest, StorageUnavailable),
)
async def create_job(body: JobCreate, jobs: Service, mlflow_url: MlflowUrl, response: Response) -> Job:
    job = job_view(await jobs.submit(body), mlflow_url=mlflow_url)
    response.headers["Location"] = job.links["self"]
    return job


@router.get("/jobs", summary="List jobs, newest first")
async def list_jobs(
    jobs: Service,
    mlflow_url: MlflowUrl,
    state: JobState | None = None,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> JobPage:
    found: list[JobRecord] = await jobs.store.page(state=state, before=cursor, limit=limit + 1)
    shown, has_more = found[:limit], len(found) > limit
    data = tuple(job_view(job, mlflow_url=mlflow_url) for job in shown)
    return JobPage(data=data, has_more=has_more, next_cursor=shown[-1].id if has_more else None)


@router.get("/jobs/{job_id}", summary="Show a job", responses=_JOB)
async def get_job(job_id: JobId, jobs: Service, mlflow_url: MlflowUrl) -> Job:
    return job_view(await jobs.find(job_id), mlflow_url=mlflow_url)


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Stop a job after a last checkpoint",
    responses=documented(JobNotFound, StateConflict),
)
async def cancel_job(job_id: JobId, jobs: Service, mlflow_url: MlflowUrl) -> Job:
    return job_view(await jobs.cancel(job_id), mlflow_url=mlflow_url)


@router.get("/jobs/{job_id}/events", summary="What happened to a job, in order", responses=_JOB)
async def list_events(
    job_id: JobId, jobs: Service, after: Number = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 200
) -> EventPage:
    await jobs.find(job_id)
    found = await jobs.store.events(job_id, after=after, limit=limit + 1)
    return EventPage(data=tuple(map(event_view, found[:limit])), has_more=len(found) > limit)


@router.get(
    "/jobs/{job_id}/logs",
    summary="Read the log of an attempt, piece by piece",
    responses=documented(JobNotFound, AttemptNotFound),
)
async def read_logs(
    job_id: JobId,
    jobs: Service,
    attempt: Annotated[int | None, Query(ge=1, lt=2**63, description="By default the latest")] = None,
    offset: Number = 0,
) -> Log:
    return await jobs.log(job_id, attempt=attempt, offset=offset)


@router.get("/jobs/{job_id}/checkpoints", summary="List committed checkpoints, oldest first", responses=_JOB)
async def list_checkpoints(job_id: JobId, jobs: Service) -> CheckpointList:
    await jobs.find(job_id)
    found = await jobs.objects.checkpoints(job_id)
    return CheckpointList(data=tuple(checkpoint_view(*one, objects=jobs.objects) for one in found))


@router.get("/jobs/{job_id}/samples", summary="List sample grids by images seen", responses=_JOB)
async def list_samples(job_id: JobId, jobs: Service) -> SampleList:
    await jobs.find(job_id)
    return SampleList(data=tuple(await jobs.objects.samples(job_id)))


_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "The grid"}}


@router.get(
    "/jobs/{job_id}/samples/{images_seen}",
    summary="Fetch a sample grid",
    response_class=Response,
    responses={**_PNG, **documented(JobNotFound, SampleNotFound)},
)
async def get_sample(
    job_id: JobId, images_seen: Annotated[int, Path(ge=0, lt=10**12)] | Literal["latest"], jobs: Service
) -> Response:
    return Response(await jobs.sample(job_id, images_seen), media_type="image/png")


@router.get("/presets", summary="Complete job documents to start from")
async def list_presets() -> PresetList:
    return PresetList(data=tuple(Preset(name=name, spec=spec) for name, spec in PRESETS.items()))
