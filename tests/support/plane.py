"""A control plane in one process: real database and application, cluster and object store in memory, time by hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI

from service.app import create_app
from service.cluster import MemoryCluster
from service.cluster.base import RunStatus
from service.cluster.memory import Process
from service.database import open_database
from service.jobs.aftercare import Aftercare
from service.jobs.mlflow import Mlflow
from service.jobs.objects import JobObjects
from service.jobs.reconciler import Reconciler
from service.jobs.records import JobRecord
from service.jobs.store import JobStore
from service.jobs.usecases import Jobs
from service.jobs.views import JobCreate
from service.settings import Settings
from workers.contract.document import Document
from workers.contract.keys import AttemptKeys, JobKeys
from workers.contract.presets import PRESETS
from workers.contract.records import Outcome, Progress
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


@dataclass
class FakeMlflow:
    """Remembers what is asked of it; unknown runs are 404, and all is 500 while it is `down`."""

    runs: dict[str, str] = field(default_factory=dict)
    down: bool = False

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if self.down:
            return httpx2.Response(500)
        if request.url.path.endswith("runs/get"):
            known = request.url.params["run_id"] in self.runs
            return (
                httpx2.Response(200, json={"run": {"info": {"experiment_id": "7"}}}) if known else httpx2.Response(404)
            )
        if request.url.path.endswith("runs/update"):
            update = httpx2.Response(200, content=request.content).json()
            self.runs[update["run_id"]] = update["status"]
        return httpx2.Response(200, json={})

    def client(self) -> Mlflow:
        return Mlflow("http://mlflow.test", transport=httpx2.MockTransport(self))


class Worker:
    """Plays a driver by hand: leaves the records of one attempt in the store."""

    def __init__(self, store: ObjectStore, job_id: str, attempt: int = 1) -> None:
        self.store = store
        self.keys: AttemptKeys = JobKeys(job_id).attempt(attempt)

    def progress(
        self, *, at: datetime | str, phase: str = "training", images_seen: int = 100, run_id: str = "run1"
    ) -> None:
        document = {
            "phase": phase,
            "images_seen": images_seen,
            "total_images": 320,
            "images_per_second": 10.0,
            "eta_seconds": 22.0,
            "losses": {"dsm": 0.5},
            "last_checkpoint_images": None,
            "num_workers": 2,
            "mlflow_run_id": run_id,
            "updated_at": at,
        }
        self._put(self.keys.progress, Progress.model_validate(document))

    def outcome(self, status: str, *, at: datetime | str, reason: str | None = None, message: str = "done") -> None:
        document = {
            "status": status,
            "reason": reason,
            "message": message,
            "images_seen": 320,
            "mlflow_run_id": "run1",
            "ended_at": at,
        }
        self._put(self.keys.outcome, Outcome.model_validate(document))

    def _put(self, key: str, record: Document) -> None:
        self.store.put(key, record.model_dump_json().encode())


class Script:
    """A driver that lives until it is told how to end, or asked to stop."""

    def __init__(self) -> None:
        self._ends: dict[str, asyncio.Future[int]] = {}
        self.last_words: Callable[[], None] | None = None  # when asked to stop

    async def __call__(self, process: Process) -> int:
        end = self._ends.setdefault(process.submission.submission_id, asyncio.get_running_loop().create_future())
        process.print(f"running {process.submission.submission_id}")
        stop: asyncio.Future[bool] = asyncio.ensure_future(process.stop_requested.wait())
        waiting: list[asyncio.Future[Any]] = [end, stop]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if process.stop_requested.is_set() and self.last_words:
            self.last_words()
        return end.result() if end.done() else 0

    def exit(self, submission_id: str, code: int) -> None:
        self._ends[submission_id].set_result(code)

    def crash(self, submission_id: str, error: Exception) -> None:
        self._ends[submission_id].set_exception(error)


class ManualClock:
    """Stands still until moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Plane:
    """The parts of a control plane, driven step by step instead of by its loops."""

    def __init__(self, jobs: JobStore, settings: Settings, *, cluster: MemoryCluster, store: ObjectStore) -> None:
        self.clock = ManualClock()
        self.store = store
        self.cluster = cluster
        self.mlflow = FakeMlflow()
        self.settings = settings
        self.jobs = jobs
        self.objects = JobObjects(store, url=settings.store_url)
        self.reconciler = self.new_reconciler()
        self.aftercare = Aftercare(
            store=jobs, objects=self.objects, cluster=cluster, mlflow=self.mlflow.client(), clock=self.clock
        )
        self.service = Jobs(
            store=jobs, objects=self.objects, cluster=cluster, clock=self.clock, wake=lambda: None, local_paths=False
        )

    def new_reconciler(self) -> Reconciler:
        """As after a restart: the database is all that is left."""
        return Reconciler(
            store=self.jobs,
            objects=self.objects,
            cluster=self.cluster,
            settings=self.settings,
            clock=self.clock,
        )

    async def submit(self, name: str | None = None) -> str:
        self.clock.advance(0.01)  # ids sort by the millisecond
        return (await self.service.submit(JobCreate(name=name, spec=PRESETS["smoke"]))).id

    async def settle(self) -> None:
        """Look until nothing moves, and once more: what a driver does in between is seen."""
        for _ in range(2):
            while await self.reconciler.tick():
                pass

    async def job(self, job_id: str) -> JobRecord:
        return await self.service.find(job_id)

    def worker(self, job_id: str, attempt: int = 1) -> Worker:
        return Worker(self.store, job_id, attempt)


@asynccontextmanager
async def plane_in(
    folder: Path, *, cluster: MemoryCluster, store: ObjectStore | None = None, **changes: Any
) -> AsyncIterator[Plane]:
    settings = settings_in(folder, **changes)
    async with open_database(settings.database_url) as database:
        yield Plane(JobStore(database), settings, cluster=cluster, store=store or MemoryStore())


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
async def served_in(folder: Path, **changes: Any) -> AsyncIterator[Served]:
    script, store, mlflow = Script(), MemoryStore(), FakeMlflow()
    cluster = MemoryCluster(script)
    app = create_app(settings_in(folder, **changes), cluster=cluster, store=store, mlflow=mlflow.client())
    async with running(app) as api:
        yield Served(api, store, cluster, script, mlflow)


async def until_run(plane: Plane, submission_id: str, status: RunStatus) -> None:
    """Return when the cluster says so of a submission."""

    async def reached() -> bool:
        run = await plane.cluster.find(submission_id)
        return run is not None and run.status is status

    await eventually(reached, what=f"{submission_id} is {status}")
