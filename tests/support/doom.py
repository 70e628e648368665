"""The points at which a process may be killed or frozen: before and after everything it does to the world.

Reading changes nothing, so a kill at a read leaves what the kill after the last effect left; what the engine answers
is counted nevertheless, since it is the answer that gets lost.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from service.cluster import Cluster
from service.database import Database
from workers.storage import ObjectStore

_EFFECTS = frozenset({"submit", "stop", "delete"})
_ANSWERS = frozenset({"find", "session", "list", "capacity", "probe"})
_WRITES = frozenset({"put", "put_if_absent", "delete"})
_Result = TypeVar("_Result")


class Doom:
    """Counts the points of one process, and sends it a signal at one of them. Number 0 is never reached."""

    def __init__(self, *, at: int, by: signal.Signals = signal.SIGKILL) -> None:
        self.passed: list[str] = []
        self._at = at
        self._by = by
        self._begun = False

    def begin(self) -> None:
        """What was done so far does not count."""
        self._begun = True

    def point(self, name: str) -> None:
        if not self._begun:
            return
        self.passed.append(name)
        if len(self.passed) == self._at:
            os.kill(os.getpid(), self._by)


class DoomedDatabase:
    """Points around each transaction that writes, and just before it is committed."""

    def __init__(self, database: Database, doom: Doom) -> None:
        self._database = database
        self._doom = doom
        self.dialect = database.dialect
        self.insert = database.insert
        self.reading = database.reading

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        name = f"database.{_method_of_the_store()}"
        self._doom.point(f"before {name}")
        async with self._database.writing() as connection:
            yield connection
            self._doom.point(f"before the commit of {name}")
        self._doom.point(f"after {name}")


class DoomedCluster:
    """Points around what is asked of the engine."""

    def __init__(self, cluster: Cluster, doom: Doom) -> None:
        self._cluster = cluster
        self._doom = doom

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._cluster, name)
        if name in _EFFECTS:
            return lambda *args: self._around(name, method(*args))
        return (lambda *args: self._after(name, method(*args))) if name in _ANSWERS else method

    async def _around(self, name: str, call: Awaitable[_Result]) -> _Result:
        self._doom.point(f"before cluster.{name}")
        return await self._after(name, call)

    async def _after(self, name: str, call: Awaitable[_Result]) -> _Result:
        try:
            return await call
        finally:
            self._doom.point(f"after cluster.{name}")


class DoomedObjects:
    """Points around each write to the object store."""

    def __init__(self, store: ObjectStore, doom: Doom) -> None:
        self._store = store
        self._doom = doom

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in _WRITES:
            return method

        def write(key: str, *data: bytes) -> Any:
            self._doom.point(f"before objects.{name} {key}")
            result = method(key, *data)
            self._doom.point(f"after objects.{name} {key}")
            return result

        return write


def doomed_database(database: Database, doom: Doom) -> Database:
    return cast("Database", DoomedDatabase(database, doom))


def doomed_cluster(cluster: Cluster, doom: Doom) -> Cluster:
    return cast("Cluster", DoomedCluster(cluster, doom))


def doomed_objects(store: ObjectStore, doom: Doom) -> ObjectStore:
    return cast("ObjectStore", DoomedObjects(store, doom))


def _method_of_the_store() -> str:
    """Who opens the transaction: the innermost caller outside of this module and of contextlib."""
    frame = sys._getframe(1)
    while frame.f_back and (frame.f_code.co_filename == __file__ or "contextlib" in frame.f_code.co_filename):
        frame = frame.f_back
    return frame.f_code.co_name
