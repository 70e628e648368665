"""The REST interface of what jobs leave beside checkpoints: attempts, events, logs, samples, files; and presets."""

from typing import Annotated

from fastapi import Query, Response
from fastapi.responses import StreamingResponse

from service.errors import (
    AttemptNotFound,
    DatasetNotFound,
    FileNotFound,
    JobGone,
    JobNotFound,
    SampleNotFound,
    StorageUnavailable,
)
from service.jobs.dependencies import AttemptNumber, FileName, ImagesSeen, Lookup, Number, ReadableJob, Results, Source
from service.jobs.downloads import HANDED_OVER, Range, handed_over
from service.jobs.planning_views import Preset, PresetList
from service.jobs.presentation import attempt_view, event_view
from service.jobs.result_views import (
    MOST_TAIL_LINES,
    AttemptList,
    EvaluationList,
    EventPage,
    Log,
    LogSourceList,
    ResultFile,
    ResultFileList,
    Sample,
    SampleList,
)
from service.web.principal import Reader
from service.web.problems import documented
from service.web.routers import v1_router
from workers.contract.data import DatasetManifest
from workers.contract.keys import DRIVER_LOG, JobKeys
from workers.contract.presets import PRESETS

router = v1_router("jobs")
_LOOKUP_RESPONSES = documented(JobNotFound, JobGone, StorageUnavailable)
_ATTEMPT = documented(JobNotFound, AttemptNotFound, JobGone, StorageUnavailable)
Tail = Annotated[
    int | None,
    Query(ge=1, le=MOST_TAIL_LINES, description="The last so many lines, up to a megabyte, whatever the offset"),
]


@router.get("/jobs/{job_id}/attempts", summary="The attempts of a job, oldest first", responses=_LOOKUP_RESPONSES)
async def list_attempts(job: ReadableJob, results: Results) -> AttemptList:
    return AttemptList(data=tuple(attempt_view(attempt, word) for attempt, word in await results.attempts(job)))


@router.get("/jobs/{job_id}/events", summary="What happened to a job, in order", responses=_LOOKUP_RESPONSES)
async def list_events(
    job: ReadableJob, jobs: Lookup, after: Number = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 200
) -> EventPage:
    found = await jobs.events(job.id, after=min(after, 2**31 - 1), limit=limit + 1)
    return EventPage(data=tuple(map(event_view, found[:limit])), has_more=len(found) > limit)


@router.get("/jobs/{job_id}/logs", summary="Read what a process printed, piece by piece", responses=_ATTEMPT)
async def read_logs(
    job: ReadableJob,
    results: Results,
    attempt: AttemptNumber = None,
    source: Source = DRIVER_LOG,
    offset: Number = 0,
    tail: Tail = None,
) -> Log:
    if attempt is None and job.attempt == 0:
        return Log(attempt=0, source=source, text="", next_offset=offset, complete=job.state.is_terminal)
    record = await results.attempt(job, attempt)
    if tail:
        return await results.log_tail(record, source=source, lines=tail)
    return await results.log_reader().read(record, source=source, offset=offset)


@router.get("/jobs/{job_id}/logs/sources", summary="Which logs an attempt has", responses=_ATTEMPT)
async def list_log_sources(job: ReadableJob, results: Results, attempt: AttemptNumber = None) -> LogSourceList:
    if attempt is None and job.attempt == 0:
        return LogSourceList(attempt=0, data=())
    record = await results.attempt(job, attempt)
    return LogSourceList(attempt=record.number, data=await results.log_sources(record))


@router.get(
    "/jobs/{job_id}/dataset",
    summary="The manifest of the image set that a job learns from, or has imported",
    responses=documented(JobNotFound, DatasetNotFound, JobGone, StorageUnavailable),
)
async def get_dataset_of_job(job: ReadableJob, results: Results) -> DatasetManifest:
    manifest = await results.objects.dataset(job.id)
    if manifest is None:
        raise DatasetNotFound(f"{job.id} has not said which images it has, or never will: trainings and imports do")
    return manifest


@router.get(
    "/jobs/{job_id}/evaluations",
    summary="What was found of its checkpoints, by images seen",
    responses=_LOOKUP_RESPONSES,
)
async def list_evaluations(job: ReadableJob, results: Results) -> EvaluationList:
    return EvaluationList(data=tuple(await results.objects.evaluations(job.id)))


@router.get("/jobs/{job_id}/files", summary="List the files that a job has left", responses=_LOOKUP_RESPONSES)
async def list_files(job: ReadableJob, results: Results) -> ResultFileList:
    found = await results.objects.files(job.id)
    return ResultFileList(data=tuple(ResultFile(name=name, url=url) for name, url in found))


@router.get(
    "/jobs/{job_id}/files/{name}",
    summary="Fetch a file that a job has left",
    response_class=StreamingResponse,
    responses=HANDED_OVER | documented(JobNotFound, FileNotFound, JobGone, StorageUnavailable),
)
async def get_file(job: ReadableJob, results: Results, name: FileName, wanted: Range = None) -> StreamingResponse:
    try:
        return await handed_over(results.objects, JobKeys(job.id).results + name, name=name, wanted=wanted)
    except FileNotFoundError:
        raise FileNotFound(f"{job.id} has left no file {name}: its list says which there are") from None


@router.get("/jobs/{job_id}/samples", summary="List sample grids by images seen", responses=_LOOKUP_RESPONSES)
async def list_samples(job: ReadableJob, results: Results) -> SampleList:
    found = await results.objects.samples(job.id)
    return SampleList(data=tuple(Sample(images_seen=images_seen) for images_seen in found))


@router.get(
    "/jobs/{job_id}/samples/{images_seen}",
    summary="Fetch a sample grid",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "A PNG"},
        **documented(JobNotFound, SampleNotFound, JobGone, StorageUnavailable),
    },
)
async def get_sample(job: ReadableJob, results: Results, images_seen: ImagesSeen) -> Response:
    return Response(await results.sample(job.id, images_seen), media_type="image/png")


@router.get("/presets", summary="Complete job documents to start from")
async def list_presets(_: Reader) -> PresetList:
    return PresetList(data=tuple(Preset(name=name, spec=spec) for name, spec in PRESETS.items()))
