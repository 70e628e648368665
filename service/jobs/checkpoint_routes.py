"""The REST interface of checkpoints: which there are, what each consists of, and its files."""

from fastapi.responses import StreamingResponse

from service.errors import CheckpointNotFound, FileNotFound, JobGone, JobNotFound, StorageUnavailable
from service.jobs.dependencies import AttemptNumber, FileName, ImagesSeen, ReadableJob, Results
from service.jobs.downloads import HANDED_OVER, Range, handed_over
from service.jobs.job_results import no_such_checkpoint
from service.jobs.presentation import checkpoint_view
from service.jobs.result_views import Checkpoint, CheckpointList
from service.web.problems import documented
from service.web.routers import v1_router
from workers.contract.keys import MANIFEST

router = v1_router("jobs")
_LOOKUP_ERRORS = (JobNotFound, CheckpointNotFound, JobGone, StorageUnavailable)
_WHICH = "`latest` is the newest there is. Where several attempts have left one at the same images, the last counts, "


@router.get(
    "/jobs/{job_id}/checkpoints",
    summary="List committed checkpoints, oldest first",
    responses=documented(JobNotFound, JobGone, StorageUnavailable),
)
async def list_checkpoints(job: ReadableJob, results: Results) -> CheckpointList:
    found = await results.objects.checkpoints(job.id)
    return CheckpointList(data=tuple(checkpoint_view(*one, objects=results.objects) for one in found))


@router.get(
    "/jobs/{job_id}/checkpoints/{images_seen}",
    summary="Show a committed checkpoint, with the sha256 of its files",
    description=f"{_WHICH}unless `attempt` says which.",
    responses=documented(*_LOOKUP_ERRORS),
)
async def get_checkpoint(
    job: ReadableJob, results: Results, images_seen: ImagesSeen, attempt: AttemptNumber = None
) -> Checkpoint:
    return checkpoint_view(*await results.checkpoint(job.id, images_seen, attempt), objects=results.objects)


@router.get(
    "/jobs/{job_id}/checkpoints/{images_seen}/files/{name}",
    summary="Fetch a file of a checkpoint",
    description=f"One that the checkpoint lists, or `{MANIFEST}`, which says what was written. {_WHICH}so a client "
    "that fetches several names the `attempt`, too.",
    response_class=StreamingResponse,
    responses=HANDED_OVER | documented(*_LOOKUP_ERRORS, FileNotFound),
)
async def get_checkpoint_file(
    job: ReadableJob,
    results: Results,
    images_seen: ImagesSeen,
    name: FileName,
    attempt: AttemptNumber = None,
    wanted: Range = None,
) -> StreamingResponse:
    folder, manifest = await results.checkpoint(job.id, images_seen, attempt)
    names = [MANIFEST, *(file.name for file in manifest.files)]
    if name not in names:
        where = f"the checkpoint of {job.id} at {manifest.images_seen} images"
        raise FileNotFound(f"{where} has no file {name}: it has {', '.join(names)}")
    try:
        return await handed_over(results.objects, folder + name, name=name, wanted=wanted)
    except FileNotFoundError:  # its training has removed it since
        raise no_such_checkpoint(job.id, images_seen, attempt) from None
