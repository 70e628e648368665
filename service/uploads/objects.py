"""Uploads in the object store. What is known of one lies beside its parts, and goes with them."""

import asyncio

from service.storage import in_thread, record_or_none, remove_all
from workers.contract.keys import UPLOADS, UploadKeys
from workers.contract.uploads import UploadRecord
from workers.storage import ObjectStore


class UploadObjects:
    """The uploads of all projects under one store."""

    def __init__(self, object_store: ObjectStore) -> None:
        self._object_store = object_store
        self._read: dict[str, UploadRecord] = {}  # records never change, so none is read twice to count them

    async def create(self, upload_id: str, record: UploadRecord) -> bool:
        """False if there is one of this id."""
        return await in_thread(
            self._object_store.put_if_absent, UploadKeys(upload_id).record, record.model_dump_json(indent=2).encode()
        )

    async def find(self, upload_id: str) -> UploadRecord | None:
        """Of whatever project, and whether it has expired or not."""
        return await record_or_none(self._object_store, UploadRecord, UploadKeys(upload_id).record)

    async def records(self) -> dict[str, UploadRecord]:
        """Of all that are there, whether they have expired or not."""
        keys = set(await in_thread(self._object_store.list, UPLOADS))
        folders = {key.removeprefix(UPLOADS).partition("/")[0] for key in keys}
        ids = [each for each in folders if UploadKeys(each).record in keys]
        unread = [each for each in ids if each not in self._read]
        found = zip(unread, await asyncio.gather(*map(self.find, unread)), strict=True)
        known = self._read | {upload_id: record for upload_id, record in found if record}
        self._read = {each: known[each] for each in ids if each in known}
        return self._read

    async def missing(self, upload_id: str, record: UploadRecord) -> list[int]:
        """The numbers of the parts that have not come. A part that is there is whole: its link takes nothing else."""
        keys = UploadKeys(upload_id)
        there = set(await in_thread(self._object_store.list, keys.parts))
        return [number for number in range(len(record.part_sizes)) if keys.part(number) not in there]

    async def links(self, upload_id: str, record: UploadRecord, *, seconds: int) -> dict[int, str]:
        """Where to put each part that has not come."""
        numbers = await self.missing(upload_id, record)
        return await in_thread(self._linked, UploadKeys(upload_id), record, numbers, seconds)

    async def can_link(self) -> bool:
        """Whether clients can put anything into this store."""
        return await in_thread(self._object_store.link_to_put, UPLOADS, 1, seconds=1) is not None

    async def pin(self, upload_id: str, job_id: str) -> None:
        """Keep it until this job has ended."""
        await in_thread(self._object_store.put, UploadKeys(upload_id).jobs + job_id, b"")

    async def jobs(self, upload_id: str) -> list[str]:
        """All that were ever to read it."""
        prefix = UploadKeys(upload_id).jobs
        return [key.removeprefix(prefix) for key in await in_thread(self._object_store.list, prefix)]

    async def ids(self) -> list[str]:
        """Of all that have left anything here, oldest first."""
        return await in_thread(self._object_store.folders, UPLOADS)

    async def remove(self, upload_id: str) -> int:
        """All of it, beginning with what is known of it; how many objects that were."""
        keys = UploadKeys(upload_id)
        return await remove_all(self._object_store, keys.root, first=keys.record)

    def _linked(self, keys: UploadKeys, record: UploadRecord, numbers: list[int], seconds: int) -> dict[int, str]:
        sizes = record.part_sizes
        links = {n: self._object_store.link_to_put(keys.part(n), sizes[n], seconds=seconds) for n in numbers}
        return {number: link for number, link in links.items() if link}
