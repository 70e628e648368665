"""What clients can do with uploads."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from service.clock import Clock
from service.database import Database
from service.errors import InvalidRequest, UploadInUse, UploadNotFound, UploadQuotaExceeded, UploadsImpossible
from service.identifiers import first_id, new_id
from service.settings import UploadLimits
from service.uploads.objects import UploadObjects
from service.uploads.views import UploadCreate
from service.web.audit import Requester, record_audit
from workers.contract.document import Problem
from workers.contract.locations import upload_location, uploaded_id
from workers.contract.uploads import UploadRecord

log = structlog.get_logger()

PART_BYTES = 256 << 20  # one PUT may have 5 GiB, and what breaks is sent again from the beginning of its part
LINK_SECONDS = 24 * 3600
_GRACE = timedelta(hours=1)  # a job that was taken at the last moment says by then that it reads the upload


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """The use cases. An upload of another project is not found.

    `readers` says which of some jobs may still read; `check_store` raises StorageUnavailable in the store of another
    installation.
    """

    objects: UploadObjects
    database: Database
    clock: Clock
    limits: UploadLimits
    readers: Callable[[Sequence[str]], Awaitable[Sequence[str]]]
    check_store: Callable[[], Awaitable[object]]

    async def create(self, request: UploadCreate, *, requester: Requester, reserved_ulid: str | None) -> str:
        """Make room for a file, and return the id; nothing of it is there yet. Repeated, it is the same one.

        Raises:
            InvalidRequest: it is too large.
            UploadQuotaExceeded: with what the project has announced already it is too much.
            UploadsImpossible: clients cannot put anything into this store.
        """
        if request.num_bytes > self.limits.max_bytes:
            message = f"at most {self.limits.max_bytes} bytes are taken; let the workers read it at a path"
            raise InvalidRequest("the file is too large", problems=[Problem("/num_bytes", "too_large", message)])
        await self.check_store()
        if not await self.objects.can_link():
            raise UploadsImpossible(
                "this service keeps its objects where clients cannot put any: give a path that its workers can read"
            )
        now = self.clock()
        upload_id = f"upl_{reserved_ulid}" if reserved_ulid else new_id("upl", at=now)
        await self._require_room(request.num_bytes, upload_id=upload_id, project=requester.project)
        record = UploadRecord(
            **request.model_dump(),
            project=requester.project,
            part_bytes=PART_BYTES,
            created_at=now,
            expires_at=now + timedelta(hours=self.limits.keep_hours),
        )
        async with self.database.writing() as connection:  # an upload that nobody answers for must not be
            entry = requester.entry(
                "upload.create", at=now, target=upload_id, status=201, after=record.model_dump_json()
            )
            await record_audit(connection, entry)
        if await self.objects.create(upload_id, record):
            log.info("upload.created", upload_id=upload_id, project=requester.project, num_bytes=request.num_bytes)
        return upload_id

    async def _require_room(self, num_bytes: int, *, upload_id: str, project: str) -> None:
        """Several that come at once may each find the same room, and go beyond it together by as much as they are."""
        found = (await self.objects.records()).items()
        held = {each: record for each, record in found if each != upload_id and record.project == project}
        if len(held) >= self.limits.project_files:  # all of all projects are looked at whenever one is announced
            raise UploadQuotaExceeded(
                f"a project may have {self.limits.project_files} uploads at a time: {_mend(held, lacking=1)}"
            )
        limit = self.limits.project_bytes
        so_far = sum(record.num_bytes for record in held.values())
        if so_far + num_bytes > limit:
            mend = _mend(held, lacking=so_far + num_bytes - limit)
            raise UploadQuotaExceeded(
                f"{len(held)} uploads take {so_far} of the project's {limit} bytes, no room for {num_bytes}: {mend}"
            )

    async def page(self, *, project: str, before: str | None, limit: int) -> list[tuple[str, UploadRecord]]:
        """All that take room of the project, newest first; also what has expired and jobs still read."""
        found = await self.objects.records()
        theirs = [upload_id for upload_id, record in found.items() if record.project == project]
        ids = sorted((each for each in theirs if before is None or each < before), reverse=True)
        return [(upload_id, found[upload_id]) for upload_id in ids[:limit]]

    async def find(self, upload_id: str, *, project: str) -> UploadRecord:
        """Raises UploadNotFound; also if it has expired."""
        record = await self._find(upload_id, project=project)
        if record.expires_at <= self.clock():
            raise UploadNotFound(f"{upload_id} has expired: upload the file again")
        return record

    async def _find(self, upload_id: str, *, project: str) -> UploadRecord:
        is_id = uploaded_id(upload_location(upload_id)) is not None  # else it might lead to other objects
        record = await self.objects.find(upload_id) if is_id else None
        if record is None or record.project != project:
            raise UploadNotFound(f"there is no upload {upload_id}")
        return record

    async def remove(self, upload_id: str, *, requester: Requester) -> None:
        """Before its time, or after it if jobs have kept it.

        Raises:
            UploadInUse: jobs may still read it.
        """
        record = await self._find(upload_id, project=requester.project)
        if waiting := await self._read_by(upload_id):
            raise UploadInUse(f"{' and '.join(waiting[:3])} may still read it: wait, or cancel")
        async with self.database.writing() as connection:
            before = record.model_dump_json()
            entry = requester.entry("upload.delete", at=self.clock(), target=upload_id, status=204, before=before)
            await record_audit(connection, entry)
        await self.objects.remove(upload_id)

    async def purge(self, *, now: datetime) -> int:
        """Remove what has expired and no job will read, finished or not; how many objects that were.

        When that is was promised when it was announced, whatever the settings say by now. Without a record the id
        tells the age.
        """
        removed = 0
        made_before = first_id("upl", at=now - timedelta(hours=self.limits.keep_hours) - _GRACE)
        found, records = await self.objects.ids(), await self.objects.records()  # later, or what is new had none yet
        for upload_id in found:
            record = records.get(upload_id)
            is_over = record.expires_at + _GRACE <= now if record else upload_id < made_before
            if is_over and not await self._read_by(upload_id):
                removed += await self.objects.remove(upload_id)
        if removed:
            log.info("uploads.purged", num_objects=removed)
        return removed

    async def _read_by(self, upload_id: str) -> Sequence[str]:
        """Jobs that may still read it. A training that has none to follow it any more may have had one just before."""
        held: list[str] = []
        while (known := await self.objects.jobs(upload_id)) != held:
            if waiting := await self.readers(known):
                return waiting
            held = known
        return ()


def _mend(held: Mapping[str, UploadRecord], *, lacking: int) -> str:
    """What makes room: those that expire first, as many as it takes."""
    named: list[str] = []
    for upload_id, record in sorted(held.items(), key=lambda each: each[1].expires_at):
        named.append(upload_id)
        lacking -= record.num_bytes
        if lacking <= 0:
            which = " and ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
            return f"delete {which}, or wait until {record.expires_at.isoformat()} and until no job reads them"
    return "it is more than a project may have; let the workers read it at a path"
