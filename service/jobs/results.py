"""The REST interface of what jobs leave: attempts, events, logs, checkpoints, samples, files; and presets."""

from collections.abc import AsyncIterator
from mimetypes import guess_type
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import StreamingResponse

from service.errors import AttemptNotFound, FileNotFound, JobGone, JobNotFound, SampleNotFound, StorageUnavailable
from service.jobs.logs import log_sources, read_log
from service.jobs.presentation import attempt_view, checkpoint_view, event_view
from service.jobs.requests import AttemptNumber, Number, ReadableJob, Service
from service.jobs.result_views import (
    AttemptList,
    CheckpointList,
    EvaluationList,
    EventPage,
    Log,
    LogSourceList,
    ResultFile,
    ResultFileList,
    SampleList,
)
from service.jobs.views import Preset, PresetList
from service.web.auth import documented_key
from service.web.principal import Reader
from service.web.problems import EVERYWHERE, documented
from workers.contract.keys import DRIVER_LOG
from workers.contract.presets import PRESETS

router = APIRouter(
    prefix="/v1", tags=["jobs"], dependencies=[Depends(documented_key)], responses=documented(*EVERYWHERE)
)
_FOUND = documented(JobNotFound, JobGone, StorageUnavailable)
_ATTEMPT = documented(JobNotFound, AttemptNotFound, JobGone, StorageUnavailable)
Source = Annotated[
    str, Query(pattern=r"^(driver|engine|rank-\d{4})$", description="Which process: driver, rank-0000 ...")
]


@router.get("/jobs/{job_id}/attempts", summary="The attempts of a job, oldest first", responses=_FOUND)
async def list_attempts(job: ReadableJob, jobs: Service) -> AttemptList:
    return AttemptList(data=tuple(attempt_view(attempt, word) for attempt, word in await jobs.attempts(job)))


@router.get("/jobs/{job_id}/events", summary="What happened to a job, in order", responses=_FOUND)
async def list_events(
    job: ReadableJob, jobs: Service, after: Number = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 200
) -> EventPage:
    found = await jobs.store.events(job.id, after=min(after, 2**31 - 1), limit=limit + 1)
    return EventPage(data=tuple(map(event_view, found[:limit])), has_more=len(found) > limit)


@router.get("/jobs/{job_id}/logs", summary="Read what a process printed, piece by piece", responses=_ATTEMPT)
async def read_logs(
    job: ReadableJob, jobs: Service, attempt: AttemptNumber = None, source: Source = DRIVER_LOG, offset: Number = 0
) -> Log:
    if attempt is None and job.attempt == 0:
        return Log(attempt=0, source=source, text="", next_offset=offset, complete=job.state.is_terminal)
    record = await jobs.attempt(job, attempt)
    return await read_log(record, source=source, offset=offset, objects=jobs.objects, cluster=jobs.cluster)


@router.get("/jobs/{job_id}/logs/sources", summary="Which logs an attempt has", responses=_ATTEMPT)
async def list_log_sources(job: ReadableJob, jobs: Service, attempt: AttemptNumber = None) -> LogSourceList:
    if attempt is None and job.attempt == 0:
        return LogSourceList(attempt=0, data=())
    record = await jobs.attempt(job, attempt)
    return LogSourceList(attempt=record.number, data=await log_sources(record, objects=jobs.objects))


@router.get("/jobs/{job_id}/checkpoints", summary="List committed checkpoints, oldest first", responses=_FOUND)
async def list_checkpoints(job: ReadableJob, jobs: Service) -> CheckpointList:
    found = await jobs.objects.checkpoints(job.id)
    return CheckpointList(data=tuple(checkpoint_view(*one, objects=jobs.objects) for one in found))


@router.get("/jobs/{job_id}/evaluations", summary="What was found of its checkpoints, by images seen", responses=_FOUND)
async def list_evaluations(job: ReadableJob, jobs: Service) -> EvaluationList:
    return EvaluationList(data=tuple(await jobs.objects.evaluations(job.id)))


@router.get("/jobs/{job_id}/files", summary="List the files that a job has left", responses=_FOUND)
async def list_files(job: ReadableJob, jobs: Service) -> ResultFileList:
    found = await jobs.objects.files(job.id)
    return ResultFileList(data=tuple(ResultFile(name=name, url=url) for name, url in found))


@router.get(
    "/jobs/{job_id}/files/{name}",
    summary="Fetch a file that a job has left",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"*/*": {}}, "description": "Its bytes, of the type that its name says"},
        **documented(JobNotFound, FileNotFound, JobGone, StorageUnavailable),
    },
)
async def get_file(
    job: ReadableJob, jobs: Service, name: Annotated[str, Path(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
) -> StreamingResponse:
    pieces = jobs.objects.file(job.id, name)
    try:
        size, first = await jobs.objects.file_size(job.id, name), await anext(pieces, b"")
    except FileNotFoundError:
        raise FileNotFound(f"{job.id} has left no file {name}: its list says which there are") from None
    media_type = guess_type(name)[0] or "application/octet-stream"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(size),
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(_resumed(first, pieces), media_type=media_type, headers=headers)


async def _resumed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


@router.get("/jobs/{job_id}/samples", summary="List sample grids by images seen", responses=_FOUND)
async def list_samples(job: ReadableJob, jobs: Service) -> SampleList:
    return SampleList(data=tuple(await jobs.objects.samples(job.id)))


@router.get(
    "/jobs/{job_id}/samples/{images_seen}",
    summary="Fetch a sample grid",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "A PNG"},
        **documented(JobNotFound, SampleNotFound, JobGone, StorageUnavailable),
    },
)
async def get_sample(
    job: ReadableJob,
    jobs: Service,
    images_seen: Annotated[Annotated[int, Path(ge=0, lt=2**63)] | Literal["latest"], Path()],
) -> Response:
    return Response(await jobs.sample(job.id, images_seen), media_type="image/png")


@router.get("/presets", summary="Complete job documents to start from")
async def list_presets(_: Reader) -> PresetList:
    return PresetList(data=tuple(Preset(name=name, spec=spec) for name, spec in PRESETS.items()))
