"""Image sets in the object store, and what import jobs report of them."""

from service.storage import in_thread, record_or_none, remove_all
from workers.contract.data import DatasetManifest
from workers.contract.importing import ImportReport
from workers.contract.keys import MANIFEST, RESULT, UNWANTED, JobKeys, dataset_folder, unwanted_dataset
from workers.storage import ObjectStore


class DatasetObjects:
    """The image sets of all projects under one store."""

    def __init__(self, object_store: ObjectStore) -> None:
        self._object_store = object_store

    async def manifest(self, digest: str) -> DatasetManifest | None:
        """None if there is no such image set."""
        return await record_or_none(self._object_store, DatasetManifest, dataset_folder(digest) + MANIFEST)

    async def report(self, job_id: str) -> ImportReport | None:
        """None if this was no import, or its results were removed."""
        return await record_or_none(self._object_store, ImportReport, JobKeys(job_id).results + RESULT)

    async def mark_unwanted(self, digest: str) -> None:
        await in_thread(self._object_store.put, unwanted_dataset(digest), b"")

    async def unwanted(self) -> list[str]:
        """Those that are to be removed."""
        return [key.removeprefix(UNWANTED) for key in await in_thread(self._object_store.list, UNWANTED)]

    async def unmark_unwanted(self, digest: str) -> None:
        await in_thread(self._object_store.delete, unwanted_dataset(digest))

    async def remove(self, digest: str) -> int:
        """All of it, beginning with its manifest, without which there is no image set; how many objects that were."""
        folder = dataset_folder(digest)
        return await remove_all(self._object_store, folder, first=folder + MANIFEST)
