"""Who we are on an engine that others use, too: an id in the database, and in the store for when that is lost."""

import secrets

from service.jobs.objects import JobObjects
from service.jobs.store import JobStore


class Installation:
    """Found when it is first needed, since the object store may still be starting when we are."""

    def __init__(self, store: JobStore, objects: JobObjects) -> None:
        self._store = store
        self._objects = objects
        self._id: str | None = None

    async def id(self) -> str:
        """Raises StorageUnavailable as long as it is not settled and the object store does not answer."""
        if self._id is None:
            self._id = await self._store.installation()
        if self._id is None:
            self._id = await self._store.settle_installation(await self._objects.installation(secrets.token_hex(8)))
        return self._id
