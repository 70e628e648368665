"""The uploads that a request for a job names: whether all of each is there, and whose it is."""

from datetime import datetime

from service.jobs.named import DATASET, dataset_path, named_files
from service.jobs.views import JobCreate
from service.uploads.objects import UploadObjects
from workers.contract.document import Problem
from workers.contract.locations import uploaded_id


async def upload_problems(
    request: JobCreate, *, project: str, uploads: UploadObjects, now: datetime, held_by: str | None
) -> list[Problem]:
    """Which cannot be read, and why. What the job `held_by` keeps may have expired."""
    problems = []
    for pointer, upload_id in _named(request).items():
        mend = "upload the file again"
        if pointer == DATASET:
            mend += ', or name what was imported of it by its digest: "kind": "imported"'
        record = await uploads.find(upload_id)
        if record is None or record.project != project:
            reason = f"there is no upload {upload_id}"
        elif record.expires_at <= now and held_by not in await uploads.jobs(upload_id):
            reason = f"{upload_id} has expired; {mend}"
        elif missing := await uploads.missing(upload_id, record):
            lacks = f"{len(missing)} of its {len(record.part_sizes)} parts have not come yet"
            reason = f"{upload_id} is not whole: {lacks}; send them first"
        else:
            continue
        problems.append(Problem(pointer, "not_found", reason))
    return problems


def upload_ids(request: JobCreate) -> tuple[str, ...]:
    """Of all that the job reads, and the evaluations that follow it."""
    return tuple(dict.fromkeys(_named(request).values()))


def _named(request: JobCreate) -> dict[str, str]:
    """Their ids, by the field that names each."""
    path = dataset_path(request.spec)
    locations = named_files(request) | ({DATASET: path} if path else {})
    found = {pointer: uploaded_id(location) for pointer, location in locations.items()}
    return {pointer: upload_id for pointer, upload_id in found.items() if upload_id}
