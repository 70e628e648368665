"""Several control planes on one Postgres: they share the jobs, and one that slept too long changes nothing."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from service.cluster import Cluster, MemoryCluster
from service.cluster.base import Resources
from service.cluster.memory import Process
from service.jobs.loop import Loop
from service.jobs.views import JobCreate
from service.parts import Parts, open_parts
from tests.support.clock import ManualClock
from tests.support.fake_mlflow import FakeMlflow
from tests.support.fault_injection import FaultInjection, freeze
from tests.support.fresh_databases import PostgresDatabases
from tests.support.plane import DEADLINE_SECONDS, REQUESTER, eventually, settings_in
from tests.support.worker import Worker
from workers.contract.presets import PRESETS
from workers.storage.memory import MemoryStore

RUNS = 24
SCENARIOS = (
    "launch",
    "finish, driver lost",
    "stop, cancelled now and SIGTERM ignored",
    "stop, paused and resumed",
    "stop, preempted",
)


@pytest.mark.timeout(600)
def test_a_replica_that_was_frozen_past_its_lease_changes_nothing(
    replicas: FaultInjection, summarize: Callable[[str], None]
) -> None:
    """A real process, stopped in the middle of acting on a job; `make test-chaos` has all failpoints."""
    points = replicas.distinct_failpoints(SCENARIOS)
    share = points[:: max(1, len(points) // RUNS)]
    assert len(share) >= RUNS

    replicas.run_all(share, freeze)

    summarize(
        f"replicas on postgres: frozen at {len(share)} of {len(points)} distinct failpoints;"
        " late writes changed nothing"
    )


@pytest.fixture
def url(postgres_databases: PostgresDatabases) -> str:
    return postgres_databases.migrated()


@asynccontextmanager
async def replica(
    url: str, folder: Path, *, cluster: Any, store: MemoryStore, ahead: float = 0.0
) -> AsyncIterator[Parts]:
    """A control plane whose clock is ahead of the others' by so many seconds."""
    clock, settings = ManualClock(), settings_in(folder, database_url=url)
    clock.advance(ahead)
    mlflow = FakeMlflow().client()
    async with open_parts(
        settings, clock=clock, cluster=cast("Cluster", cluster), object_store=store, mlflow=mlflow
    ) as parts:
        yield parts


async def submitted(parts: Parts, **fields: Any) -> str:
    cast("ManualClock", parts.clock).advance(0.01)  # ids sort by the millisecond
    request = JobCreate.model_validate({"spec": PRESETS["smoke"], **fields})
    return (await parts.submissions.submit(request, requester=REQUESTER)).id


@pytest.mark.parametrize("skew", [0.0, 45.0, 3600.0], ids=["same-time", "within-the-lease", "an-hour"])
async def test_replicas_share_jobs_and_submit_each_once_whatever_their_clocks_say(
    url: str, tmp_path: Path, skew: float
) -> None:
    starts: Counter[str] = Counter()
    store = MemoryStore()

    async def driver(process: Process) -> int:
        starts[process.submission.submission_id] += 1
        job_id, _, attempt = process.submission.submission_id.rpartition("-a")
        Worker(store, job_id, int(attempt)).outcome("succeeded", at=datetime(2026, 11, 1, tzinfo=UTC))
        return 0

    cluster = MemoryCluster(driver)
    cluster.total = Resources(cpus=8.0, gpus=0.0)
    async with AsyncExitStack() as stack:
        planes = [
            await stack.enter_async_context(replica(url, tmp_path, cluster=cluster, store=store, ahead=ahead))
            for ahead in (0.0, skew)
        ]
        job_ids = [await submitted(planes[number % 2]) for number in range(12)]
        for plane in planes:
            for name in ("scheduler", "reconciler"):
                loop = Loop(name, getattr(plane, name).tick, interval_seconds=0.01)
                await stack.enter_async_context(loop.running())

        async def all_succeeded() -> bool:
            for plane in planes:
                cast("ManualClock", plane.clock).advance(1.0)
            jobs = [await planes[0].store.find(job_id) for job_id in job_ids]
            return all(job and job.state == "succeeded" for job in jobs)

        await eventually(all_succeeded, what="all succeeded", seconds=60.0)

        assert starts == {f"{job_id}-a1": 1 for job_id in job_ids}
        for job_id in job_ids:
            events = await planes[0].store.events(job_id, after=0, limit=100)
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            assert [event.type for event in events].count("attempt_started") == 1


class Sleepy:
    """An object store in which a replica falls asleep when it has decided to begin an attempt, until it is woken."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.asleep = threading.Event()
        self.woken = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def folders(self, prefix: str) -> list[str]:
        """Which numbers have been claimed, for the next one."""
        self.asleep.set()
        self.woken.wait(DEADLINE_SECONDS)
        return self._store.folders(prefix)


async def test_a_scheduler_that_slept_past_its_lease_starts_nothing_on_what_it_saw_before(
    url: str, tmp_path: Path
) -> None:
    """The job that it would start is still in the queue, just as it was: only the lease tells that it is too late."""

    async def driver(process: Process) -> int:
        await process.stop_requested.wait()
        return 0

    cluster, store = MemoryCluster(driver), MemoryStore()
    cluster.total = Resources(cpus=2.0, gpus=0.0)
    sleepy = Sleepy(store)
    async with (
        replica(url, tmp_path, cluster=cluster, store=cast("MemoryStore", sleepy)) as sleeper,
        replica(url, tmp_path, cluster=cluster, store=store, ahead=31.0) as other,
    ):
        first = await submitted(sleeper)
        tick = asyncio.create_task(sleeper.scheduler.tick())
        assert await asyncio.to_thread(sleepy.asleep.wait, DEADLINE_SECONDS)

        urgent = await submitted(other, priority="high")
        await other.scheduler.tick()
        sleepy.woken.set()
        await tick

        states = [
            (job and job.state, job and job.attempt)
            for job in [await other.store.find(first), await other.store.find(urgent)]
        ]
        assert states == [("queued", 0), ("starting", 1)]
        waiting = await other.store.find(first)
        assert waiting
        assert waiting.reason == "waiting_capacity"
