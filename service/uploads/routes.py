"""The REST interface of uploads: files that are too large for a request, sent to the object store itself."""

import asyncio
from typing import Annotated

from fastapi import Depends, Path, Response

from service.errors import StorageUnavailable, UploadInUse, UploadNotFound, UploadQuotaExceeded, UploadsImpossible
from service.settings import Settings
from service.uploads.usecases import LINK_SECONDS, Uploads
from service.uploads.views import Sources, Upload, UploadCreate, UploadPage, UploadPart, UploadPartList
from service.web.audit import CurrentRequester
from service.web.description import sent
from service.web.idempotency import ReservedUlid, documented_idempotency_key
from service.web.pagination import CursorParameter, LimitParameter, page_of, read_cursor
from service.web.principal import Reader, Writer
from service.web.problems import EVERY_POST, documented
from service.web.routers import of_state, v1_router
from service.web.views import PLAIN_TEXT
from workers.contract.locations import upload_location
from workers.contract.uploads import UploadRecord

router = v1_router("uploads")
_LOOKUP_ERRORS = (UploadNotFound, StorageUnavailable)

Service = Annotated[Uploads, of_state("uploads")]
UploadId = Annotated[str, Path(max_length=64, pattern=PLAIN_TEXT, description="As given at creation")]


@router.get("/sources", summary="Where the files of a job may be", responses=documented(StorageUnavailable))
async def show_sources(_: Reader, uploads: Service, settings: Annotated[Settings, of_state("settings")]) -> Sources:
    return Sources(
        shares_paths=settings.local_paths,
        takes_uploads=await uploads.objects.can_link(),
        max_upload_bytes=uploads.limits.max_bytes,
        s3=settings.s3_sources,
    )


@router.post(
    "/uploads",
    status_code=201,
    summary="Make room for a file",
    description="`parts` then says where to PUT it. Whoever may write in the project may send it, and name it in jobs.",
    dependencies=[Depends(documented_idempotency_key)],
    responses=sent(201, "Location")
    | documented(*EVERY_POST, UploadQuotaExceeded, UploadsImpossible, StorageUnavailable),
)
async def create_upload(
    _: Writer, body: UploadCreate, uploads: Service, requester: CurrentRequester, ulid: ReservedUlid, response: Response
) -> Upload:
    upload_id = await uploads.create(body, requester=requester, reserved_ulid=ulid)
    response.headers["Location"] = f"/v1/uploads/{upload_id}"
    return await _shown(upload_id, await uploads.find(upload_id, project=requester.project), uploads)


@router.get(
    "/uploads",
    summary="List uploads that take room of the project, newest first",
    responses=documented(StorageUnavailable),
)
async def list_uploads(
    reader: Reader, uploads: Service, cursor: CursorParameter = None, limit: LimitParameter = 50
) -> UploadPage:
    before = read_cursor(cursor, kind="uploads")
    found = await uploads.page(project=reader.project, before=before, limit=limit + 1)
    page = page_of(found, limit=limit, kind="uploads", key=lambda row: row[0])
    shown = await asyncio.gather(*(_shown(upload_id, record, uploads) for upload_id, record in page.rows))
    return page.shown(UploadPage, shown)


@router.get("/uploads/{upload_id}", summary="Show an upload", responses=documented(*_LOOKUP_ERRORS))
async def get_upload(upload_id: UploadId, uploads: Service, reader: Reader) -> Upload:
    return await _shown(upload_id, await uploads.find(upload_id, project=reader.project), uploads)


@router.get(
    "/uploads/{upload_id}/parts",
    summary="Where to PUT what is missing of an upload",
    description="Each URL takes exactly its part, again and again, and nothing else. Keep them to yourself.",
    responses=documented(*_LOOKUP_ERRORS),
)
async def list_parts(upload_id: UploadId, uploads: Service, writer: Writer, response: Response) -> UploadPartList:
    record = await uploads.find(upload_id, project=writer.project)
    links = await uploads.objects.links(upload_id, record, seconds=LINK_SECONDS)
    response.headers["Cache-Control"] = "no-store"
    parts = (
        UploadPart(number=number, num_bytes=size, url=links.get(number))
        for number, size in enumerate(record.part_sizes)
    )
    return UploadPartList(data=tuple(parts))


@router.delete(
    "/uploads/{upload_id}",
    status_code=204,
    summary="Remove an upload before it expires",
    responses=documented(*_LOOKUP_ERRORS, UploadInUse),
)
async def delete_upload(upload_id: UploadId, uploads: Service, requester: CurrentRequester, _: Writer) -> None:
    await uploads.remove(upload_id, requester=requester)


async def _shown(upload_id: str, record: UploadRecord, uploads: Uploads) -> Upload:
    this = f"/v1/uploads/{upload_id}"
    return Upload(
        id=upload_id,
        name=record.name,
        num_bytes=record.num_bytes,
        part_bytes=record.part_bytes,
        sha256=record.sha256,
        num_missing_parts=len(await uploads.objects.missing(upload_id, record)),
        path=upload_location(upload_id),
        created_at=record.created_at,
        expires_at=record.expires_at,
        links={"self": this, "parts": f"{this}/parts"},
    )
