"""A control plane in one process: real database and application, cluster and object store in memory, time by hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx2
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.cluster import MemoryCluster
from service.cluster.base import NO_RESOURCES, Resources, RunStatus
from service.cluster.memory import Process
from service.jobs.records import JobRecord
from service.jobs.views import CancelRequest, JobCreate
from service.parts import Parts, open_parts
from service.settings import Settings
from service.web.audit import Requester
from tests.support.clock import ManualClock
from tests.support.fake_mlflow import FakeMlflow
from tests.support.fresh_databases import prepare
from tests.support.worker import Worker
from workers.contract.presets import PRESETS
from workers.storage import ObjectStore
from workers.storage.memory import MemoryStore

KEY = "test-key-0123456789"
DEADLINE_SECONDS = 10.0


def settings_in(folder: Path, **changes: Any) -> Settings:
    given: dict[str, Any] = {
        "api_key": KEY,
        "store_url": "memory://plane",
        "ray_url": "memory://plane",
        "mlflow_url": "http://mlflow.test",
        "state_folder": folder,
        "reconcile_interval_seconds": 0.01,
        "retries": {"back_off_seconds": 0.0, "platform": 2},
    }
    return Settings(**{**given, **changes})


async def eventually(check: Callable[[], Awaitable[bool]], *, what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Return when it holds; fail if it does not within the deadline."""
    try:
        async with asyncio.timeout(seconds):
            while not await check():  # noqa: ASYNC110 (what is waited for has no event to give)
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None


class Script:
    """A driver that lives until it is told how to end, or asked to stop."""

    def __init__(self) -> None:
        self._ends: dict[str, asyncio.Future[int]] = {}
        self.last_words: Callable[[], None] | None = None  # when asked to stop
        self.holds: Callable[[Process], Resources] = lambda _: NO_RESOURCES  # what its workers take of the cluster
        self.is_stubborn = False  # then it does not leave when asked to

    async def __call__(self, process: Process) -> int:
        end = self._ends.setdefault(process.submission.submission_id, asyncio.get_running_loop().create_future())
        process.holds = self.holds(process)
        process.print(f"running {process.submission.submission_id}")
        stop: asyncio.Future[bool] = asyncio.ensure_future(process.stop_requested.wait())
        waiting: list[asyncio.Future[Any]] = [end] if self.is_stubborn else [end, stop]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if process.stop_requested.is_set() and self.last_words:
            self.last_words()
        return end.result() if end.done() else 0

    def exit(self, submission_id: str, code: int) -> None:
        self._ends[submission_id].set_result(code)

    def crash(self, submission_id: str, error: Exception) -> None:
        self._ends[submission_id].set_exception(error)


REQUESTER = Requester(
    actor="tester",
    owner="tester",
    owner_name="Tess",
    project="default",
    method="POST",
    path="/v1/jobs",
    request_id="req_test",
    client="127.0.0.1",
)


class FailingStore(MemoryStore):
    """Fails to read below one prefix."""

    broken: str | None = None

    def get(self, key: str) -> bytes:
        if self.broken and key.startswith(self.broken):
            raise ConnectionError("the store is on fire")
        return super().get(key)


class Plane:
    """The parts of a control plane, driven step by step instead of by its loops."""

    def __init__(self, parts: Parts, *, cluster: MemoryCluster, store: ObjectStore, mlflow: FakeMlflow) -> None:
        self.parts = parts
        self.clock = cast(ManualClock, parts.clock)
        self.store = store
        self.cluster = cluster
        self.mlflow = mlflow
        self.settings = parts.settings
        self.jobs = parts.store
        self.objects = parts.objects
        self.aftercare = parts.aftercare
        self.service = parts.jobs
        self.submissions = parts.submissions
        self.followups = parts.followups

    async def submit(self, name: str | None = None, **fields: Any) -> str:
        self.clock.advance(0.01)  # ids sort by the millisecond
        request = JobCreate.model_validate({"name": name, "spec": PRESETS["smoke"], **fields})
        return (await self.submissions.submit(request, requester=REQUESTER)).id

    async def settle(self) -> None:
        """Look until nothing moves, and once more: what a driver does in between is seen."""
        for _ in range(2):
            while any([await self.parts.scheduler.tick(), await self.parts.reconciler.tick()]):
                pass

    async def started(self, *, training: bool = True, **fields: Any) -> str:
        """A job that the engine runs; with `training`, one that is under way."""
        job_id = await self.submit(**fields)
        await self.settle()
        if training:
            self.worker(job_id).progress(at=self.clock())
            await self.settle()
        return job_id

    async def end(self, job_id: str, status: str = "succeeded", **fields: Any) -> None:
        """Its attempt says that it has ended so; whether its driver is gone, too, the script decides."""
        attempt = (await self.job(job_id)).attempt
        self.worker(job_id, attempt).outcome(status, at=self.clock(), **fields)
        await self.settle()

    async def trained(self, *checkpoints: int) -> str:
        """A training that has succeeded, and left these checkpoints."""
        job_id = await self.started()
        for images_seen in checkpoints:
            self.worker(job_id).checkpoint(images_seen, at=self.clock())
        await self.end(job_id)
        return job_id

    async def job(self, job_id: str) -> JobRecord:
        return await self.jobs.get(job_id, project="default")

    async def events(self, job_id: str) -> list[str]:
        """The types of all its events; those of moves name the state, too."""
        found = await self.jobs.events(job_id, after=0, limit=1000)
        assert [event.sequence for event in found] == list(range(1, len(found) + 1))
        return [event.state if event.type == "state_changed" else event.type for event in found]

    async def cancel(self, job_id: str, **how: Any) -> JobRecord:
        return await self.service.cancel(job_id, CancelRequest(**how), requester=REQUESTER)

    def worker(self, job_id: str, attempt: int = 1) -> Worker:
        return Worker(self.store, job_id, attempt)


@asynccontextmanager
async def plane_in(
    folder: Path,
    *,
    cluster: MemoryCluster,
    store: ObjectStore | None = None,
    clock: ManualClock | None = None,
    registry: CollectorRegistry | None = None,
    **changes: Any,
) -> AsyncIterator[Plane]:
    settings, objects, mlflow = settings_in(folder, **changes), store or MemoryStore(), FakeMlflow()
    prepare(settings.database_url)
    opened = open_parts(
        settings,
        clock=clock or ManualClock(),
        cluster=cluster,
        object_store=objects,
        mlflow=mlflow.client(),
        registry=registry,
    )
    async with opened as parts:
        yield Plane(parts, cluster=cluster, store=objects, mlflow=mlflow)


@asynccontextmanager
async def running(app: FastAPI, *, key: str | None = KEY) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the started application, without a socket between."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx2.ASGITransport(with_state)
        async with httpx2.AsyncClient(transport=transport, base_url="http://cdm.test", headers=headers) as client:
            yield client


@dataclass
class Served:
    """A started application and what it works on."""

    api: httpx2.AsyncClient
    store: MemoryStore
    cluster: MemoryCluster
    script: Script
    mlflow: FakeMlflow


@asynccontextmanager
async def served_in(folder: Path, *, store: MemoryStore | None = None, **changes: Any) -> AsyncIterator[Served]:
    script, store, mlflow = Script(), store or MemoryStore(), FakeMlflow()
    settings, cluster = settings_in(folder, **changes), MemoryCluster(script)
    prepare(settings.database_url)
    app = create_app(settings, cluster=cluster, object_store=store, mlflow=mlflow.client())
    async with running(app) as api:
        yield Served(api, store, cluster, script, mlflow)


async def until_run(plane: Plane, submission_id: str, status: RunStatus) -> None:
    """Return when the cluster says so of a submission."""

    async def reached() -> bool:
        run = await plane.cluster.find(submission_id)
        return run is not None and run.status is status

    await eventually(reached, what=f"{submission_id} is {status}")
