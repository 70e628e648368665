"""A control plane in one process: real database and application, cluster and object store in memory, time by hand."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import httpx2
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.cluster import MemoryCluster
from service.cluster.base import NOTHING, Resources, RunStatus
from service.cluster.memory import Process
from service.jobs.mlflow import Mlflow
from service.jobs.records import JobRecord
from service.jobs.views import CancelRequest, JobCreate
from service.metrics.mlflow import MlflowCurves
from service.parts import Parts, open_parts
from service.settings import Settings
from service.web.audit import Origin
from tests.support.clock import ManualClock
from tests.support.fresh_databases import prepare
from workers.contract.document import Document
from workers.contract.keys import MANIFEST, AttemptKeys, JobKeys
from workers.contract.presets import PRESETS
from workers.contract.records import Behind, CheckpointManifest, Claim, Outcome, Progress
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


@dataclass
class FakeMlflow:
    """Remembers what is asked of it; unknown runs are 404, and all is 500 while it is `down`."""

    runs: dict[str, str] = field(default_factory=dict)
    curves: dict[str, dict[int, float]] = field(default_factory=dict)  # of whatever run, by images seen
    tags: dict[str, dict[str, str]] = field(default_factory=dict)  # by run
    down: bool = False

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if self.down:
            return httpx2.Response(500)
        if request.url.path.endswith("runs/get"):
            known = request.url.params["run_id"] in self.runs
            return httpx2.Response(200, json={"run": self._run()}) if known else httpx2.Response(404)
        if request.url.path.endswith("experiments/get-by-name"):
            return httpx2.Response(200, json={"experiment": {"experiment_id": "7"}})
        if request.url.path.endswith("metrics/get-history"):
            key = request.url.params["metric_key"]
            found = [_metric(key, step, value) for step, value in self.curves.get(key, {}).items()]
            return httpx2.Response(200, json={"metrics": found})
        if request.url.path.endswith("runs/log-batch"):
            batch = httpx2.Response(200, content=request.content).json()
            tags = {tag["key"]: tag["value"] for tag in batch.get("tags", ())}
            self.tags.setdefault(batch["run_id"], {}).update(tags)
        if request.url.path.endswith("runs/update"):
            update = httpx2.Response(200, content=request.content).json()
            self.runs[update["run_id"]] = update["status"]
        return httpx2.Response(200, json={})

    def _run(self) -> dict[str, Any]:
        last = ((key, max(points.items())) for key, points in self.curves.items())
        metrics = [_metric(key, step, value) for key, (step, value) in last]
        return {"info": {"experiment_id": "7"}, "data": {"metrics": metrics}}

    def client(self) -> Mlflow:
        return Mlflow("http://mlflow.test", transport=httpx2.MockTransport(self))

    def reader(self) -> MlflowCurves:
        return MlflowCurves("http://mlflow.test", transport=httpx2.MockTransport(self))


def _metric(key: str, step: int, value: float) -> dict[str, Any]:
    return {"key": key, "step": step, "value": value if math.isfinite(value) else "NaN", "timestamp": step}


class Worker:
    """Plays a driver by hand: leaves the records of one attempt in the store."""

    def __init__(self, store: ObjectStore, job_id: str, attempt: int = 1) -> None:
        self.store = store
        self.job_id = job_id
        self.attempt = attempt
        self.keys: AttemptKeys = JobKeys(job_id).attempt(attempt)

    def claim(self, *, at: datetime | str) -> bool:
        """False if the attempt is somebody's already."""
        claim = Claim.model_validate({"host": "node-1", "pid": 7, "claimed_at": at})
        return self.store.put_if_absent(self.keys.claim, claim.model_dump_json().encode())

    def progress(
        self,
        *,
        at: datetime | str,
        phase: str = "training",
        images_seen: int = 100,
        run_id: str = "run1",
        checkpoint: int | None = None,
        behind: dict[str, Behind] | None = None,
        useful: float = 0.0,
        waiting_for: str | None = None,
        restarts: int = 0,
    ) -> None:
        document = {
            "phase": phase,
            "images_seen": images_seen,
            "total_images": 320,
            "images_per_second": 10.0,
            "eta_seconds": 22.0,
            "losses": {"dsm": 0.5},
            "last_checkpoint_images": checkpoint,
            "num_workers": 2,
            "mlflow_run_id": run_id,
            "updated_at": at,
            "tracking_behind": behind or {},
            "ledger": {"useful": useful},
            "waiting_for": waiting_for,
            "restarts": restarts,
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

    def checkpoint(self, images_seen: int, *, at: datetime | str) -> None:
        """A committed one, of which only the manifest matters here."""
        manifest = {"images_seen": images_seen, "attempt": self.attempt, "spec_sha256": "0" * 64, "created_at": at}
        folder = JobKeys(self.job_id).checkpoint(images_seen, self.attempt)
        self._put(f"{folder}{MANIFEST}", CheckpointManifest.model_validate({**manifest, "files": ()}))

    def _put(self, key: str, record: Document) -> None:
        self.store.put(key, record.model_dump_json().encode())


class Script:
    """A driver that lives until it is told how to end, or asked to stop."""

    def __init__(self) -> None:
        self._ends: dict[str, asyncio.Future[int]] = {}
        self.last_words: Callable[[], None] | None = None  # when asked to stop
        self.holds: Callable[[Process], Resources] = lambda _: NOTHING  # what its workers take of the cluster
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


ORIGIN = Origin(
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
        self.service = parts.jobs(wake=lambda _: None)
        self.followups = parts.followups(self.service)

    async def submit(self, name: str | None = None, **fields: Any) -> str:
        self.clock.advance(0.01)  # ids sort by the millisecond
        request = JobCreate.model_validate({"name": name, "spec": PRESETS["smoke"], **fields})
        return (await self.service.submit(request, origin=ORIGIN)).id

    async def settle(self) -> None:
        """Look until nothing moves, and once more: what a driver does in between is seen."""
        for _ in range(2):
            while await self.parts.scheduler.tick() | await self.parts.reconciler.tick():
                pass

    async def started(self, *, training: bool = True, **fields: Any) -> str:
        """A job that the engine runs; with `training`, one that is under way."""
        job_id = await self.submit(**fields)
        await self.settle()
        if training:
            self.worker(job_id).progress(at=self.clock())
            await self.settle()
        return job_id

    async def job(self, job_id: str) -> JobRecord:
        return await self.service.find(job_id, project="default")

    async def events(self, job_id: str) -> list[str]:
        """The types of all its events; those of moves name the state, too."""
        found = await self.jobs.events(job_id, after=0, limit=1000)
        assert [event.sequence for event in found] == list(range(1, len(found) + 1))
        return [event.state if event.type == "state_changed" else event.type for event in found]

    async def cancel(self, job_id: str, **how: Any) -> JobRecord:
        return await self.service.cancel(job_id, CancelRequest(**how), origin=ORIGIN)

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
        objects=objects,
        mlflow=mlflow.client(),
        curves=mlflow.reader(),
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
    app = create_app(settings, cluster=cluster, store=store, mlflow=mlflow.client())
    async with running(app) as api:
        yield Served(api, store, cluster, script, mlflow)


async def until_run(plane: Plane, submission_id: str, status: RunStatus) -> None:
    """Return when the cluster says so of a submission."""

    async def reached() -> bool:
        run = await plane.cluster.find(submission_id)
        return run is not None and run.status is status

    await eventually(reached, what=f"{submission_id} is {status}")
