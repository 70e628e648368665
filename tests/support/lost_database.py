"""An installation whose database may be lost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from service.cluster import MemoryCluster
from service.jobs.listing import Filters
from service.jobs.rebuild import rebuild
from tests.support.clock import ManualClock
from tests.support.plane import Plane, Script, plane_in
from workers.storage.memory import MemoryStore


class Site:
    """One installation: its engine and its object store outlive its database."""

    def __init__(self, folder: Path, script: Script) -> None:
        self.folder = folder
        self.cluster = MemoryCluster(script)
        self.store = MemoryStore()
        self.clock = ManualClock()

    @asynccontextmanager
    async def plane(self) -> AsyncIterator[Plane]:
        async with plane_in(self.folder, cluster=self.cluster, store=self.store, clock=self.clock) as plane:
            yield plane

    def lose_database(self) -> None:
        for file in self.folder.glob("service.db*"):
            file.unlink()

    @asynccontextmanager
    async def rebuilt(self) -> AsyncIterator[Plane]:
        """After the database was lost."""
        self.lose_database()
        async with self.plane() as plane:
            assert await plane.jobs.page(Filters(project="default"), limit=10) == []
            await rebuild(plane.jobs, plane.objects, now=plane.clock())
            yield plane
