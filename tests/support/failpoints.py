"""Failpoints, at which a process may be killed or frozen: before and after each of its side effects.

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


class Failpoints:
    """Counts the failpoints that a process passes, and sends it a signal at one of them. Number 0 is never reached."""

    def __init__(self, *, trigger_at: int, send: signal.Signals = signal.SIGKILL) -> None:
        self.passed: list[str] = []
        self._trigger_at = trigger_at
        self._signal = send
        self._enabled = False

    def enable(self) -> None:
        """What was done so far does not count."""
        self._enabled = True

    def hit(self, name: str) -> None:
        if not self._enabled:
            return
        self.passed.append(name)
        if len(self.passed) == self._trigger_at:
            os.kill(os.getpid(), self._signal)


class InstrumentedDatabase:
    """Failpoints around each transaction that writes, and just before it is committed."""

    def __init__(self, database: Database, failpoints: Failpoints) -> None:
        self._database = database
        self._failpoints = failpoints
        self.dialect = database.dialect
        self.insert = database.insert
        self.reading = database.reading

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        name = f"database.{_caller_name()}"
        self._failpoints.hit(f"before {name}")
        async with self._database.writing() as connection:
            yield connection
            self._failpoints.hit(f"before the commit of {name}")
        self._failpoints.hit(f"after {name}")


class InstrumentedCluster:
    """Failpoints around what is asked of the engine."""

    def __init__(self, cluster: Cluster, failpoints: Failpoints) -> None:
        self._cluster = cluster
        self._failpoints = failpoints

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._cluster, name)
        if name in _EFFECTS:
            return lambda *args: self._around(name, method(*args))
        return (lambda *args: self._after(name, method(*args))) if name in _ANSWERS else method

    async def _around(self, name: str, call: Awaitable[_Result]) -> _Result:
        self._failpoints.hit(f"before cluster.{name}")
        return await self._after(name, call)

    async def _after(self, name: str, call: Awaitable[_Result]) -> _Result:
        try:
            return await call
        finally:
            self._failpoints.hit(f"after cluster.{name}")


class InstrumentedObjects:
    """Failpoints around each write to the object store."""

    def __init__(self, store: ObjectStore, failpoints: Failpoints) -> None:
        self._store = store
        self._failpoints = failpoints

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in _WRITES:
            return method

        def write(key: str, *data: bytes) -> Any:
            self._failpoints.hit(f"before objects.{name} {key}")
            result = method(key, *data)
            self._failpoints.hit(f"after objects.{name} {key}")
            return result

        return write


def instrumented_database(database: Database, failpoints: Failpoints) -> Database:
    return cast("Database", InstrumentedDatabase(database, failpoints))


def instrumented_cluster(cluster: Cluster, failpoints: Failpoints) -> Cluster:
    return cast("Cluster", InstrumentedCluster(cluster, failpoints))


def instrumented_objects(store: ObjectStore, failpoints: Failpoints) -> ObjectStore:
    return cast("ObjectStore", InstrumentedObjects(store, failpoints))


def _caller_name() -> str:
    """Who opens the transaction: the innermost caller outside of this module and of contextlib."""
    frame = sys._getframe(1)
    while frame.f_back and (frame.f_code.co_filename == __file__ or "contextlib" in frame.f_code.co_filename):
        frame = frame.f_back
    return frame.f_code.co_name
