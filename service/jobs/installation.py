"""Who we are on an engine that others use, too: an id in the database, and in the store for when that is lost."""

import secrets

from service.errors import StoreOfAnotherInstallation, StoreWithoutConditions
from service.jobs.objects import JobObjects
from service.jobs.store import JobStore
from workers.contract.keys import INSTALLATION


class Installation:
    """Found when it is first needed, since the object store may still be starting when we are."""

    def __init__(self, store: JobStore, objects: JobObjects) -> None:
        self._store = store
        self._objects = objects
        self._id: str | None = None

    async def id(self) -> str:
        """Who we are.

        Raises:
            StorageUnavailable: as long as it is not settled and the object store does not answer.
            StoreOfAnotherInstallation: the database has jobs, and they are not those of this store.
            StoreWithoutConditions: attempts could not be fenced in it.
        """
        if self._id is None:
            settled = await self._settled()
            if not await self._objects.heeds_conditions():
                raise StoreWithoutConditions(
                    "the object store overwrites in spite of `If-None-Match: *`: take one that does not"
                )
            self._id = settled
        return self._id

    async def check_store(self) -> None:
        """Return if the object store answers and is ours; raises as `id` does."""
        await self._objects.ping()
        await self.id()

    async def _settled(self) -> str:
        known = await self._store.installation()
        if known is None:
            return await self._store.settle_installation(await self._objects.installation(secrets.token_hex(8)))
        if not await self._store.has_jobs():  # then any store is as good
            kept = await self._objects.installation(known)
            await self._store.adopt_installation(kept)
            return kept
        check_same(known, await self._objects.known_installation())
        return known


def check_same(known: str, there: str | None) -> None:
    """Raise StoreOfAnotherInstallation unless the database, which has jobs, and the store are of one installation."""
    if there != known:
        raise StoreOfAnotherInstallation(
            f"the store's object `{INSTALLATION}` is {there or 'not there'}, and the database is of {known}: "
            "set CDM_STORE_URL to the store of its jobs"
        )
