"""The REST interface of data sets."""

from typing import Annotated

from fastapi import Depends, Path, Query

from service.datasets.presentation import dataset_view, details_view
from service.datasets.usecases import Datasets
from service.datasets.views import DatasetCreate, DatasetDetails, DatasetPage
from service.errors import DatasetInUse, DatasetNotFound, StorageUnavailable
from service.jobs.dependencies import Show, Submitting
from service.jobs.views import Job
from service.web.audit import CurrentRequester
from service.web.description import sent
from service.web.idempotency import ReservedUlid, documented_idempotency_key
from service.web.pagination import CursorParameter, LimitParameter, page_of, read_cursor
from service.web.principal import Reader, Writer
from service.web.problems import EVERY_POST, documented
from service.web.routers import of_state, v1_router

router = v1_router("datasets")

Service = Annotated[Datasets, of_state("datasets")]
DatasetDigest = Annotated[
    str, Path(pattern=r"^[0-9a-f]{64}$", description="As the report of an import, or the list, has it")
]
DigestPrefix = Annotated[str, Query(pattern=r"^[0-9a-f]{0,64}$", description="Only those whose digest begins so")]
_LOOKUP_ERRORS = (DatasetNotFound, StorageUnavailable)


@router.post(
    "/datasets",
    status_code=202,
    summary="Import images: submit an import job",
    description="Answers at once with the job, as `POST /v1/jobs` with a document of kind `import` does, which has "
    "`dry_run`, too. What has come of it: the job's report, and this list.",
    dependencies=[Depends(documented_idempotency_key)],
    responses=sent(202, "ETag", "Location") | documented(*EVERY_POST, StorageUnavailable),
)
async def create_dataset(
    _: Writer,
    body: DatasetCreate,
    datasets: Service,
    submissions: Submitting,
    requester: CurrentRequester,
    show: Show,
    ulid: ReservedUlid,
) -> Job:
    record = await datasets.submit(body, submissions=submissions, requester=requester, job_id=ulid and f"job_{ulid}")
    return show.created(record)


@router.get("/datasets", summary="List data sets, newest first", responses=documented(StorageUnavailable))
async def list_datasets(
    reader: Reader,
    datasets: Service,
    digest_prefix: DigestPrefix = "",
    cursor: CursorParameter = None,
    limit: LimitParameter = 50,
) -> DatasetPage:
    before = read_cursor(cursor, kind="datasets")
    found = await datasets.page(project=reader.project, digest_prefix=digest_prefix, before=before, limit=limit + 1)
    page = page_of(found, limit=limit, kind="datasets", key=lambda dataset: dataset.first_job_id)
    shown = await datasets.manifests(list(page.rows))
    return page.shown(DatasetPage, (dataset_view(dataset, manifest) for dataset, manifest in shown))


@router.get(
    "/datasets/{digest}",
    summary="Show a data set, its classes and what was left out",
    responses=documented(*_LOOKUP_ERRORS),
)
async def get_dataset(digest: DatasetDigest, datasets: Service, reader: Reader) -> DatasetDetails:
    dataset, manifest = await datasets.find(digest, project=reader.project)
    return details_view(dataset, manifest, await datasets.report(dataset))


@router.delete(
    "/datasets/{digest}",
    status_code=204,
    summary="Remove a data set that no job learns from",
    description="Its bytes go when no other project has the same images, and no running import can be about to.",
    responses=documented(*_LOOKUP_ERRORS, DatasetInUse),
)
async def delete_dataset(digest: DatasetDigest, datasets: Service, requester: CurrentRequester, _: Writer) -> None:
    await datasets.remove(digest, requester=requester)
