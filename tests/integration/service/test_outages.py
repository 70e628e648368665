"""Engine and store that are away or have forgotten, and writers that come too late: nothing ends without proof."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.cluster import MemoryCluster
from service.jobs.lifecycle import JobState
from tests.support.jobs import SPEC
from tests.support.plane import FailingStore, Plane, Script, eventually, plane_in, served_in
from tests.support.worker import Worker
from workers.storage.memory import MemoryStore

MANY = 40  # more than there are threads for what clients ask of the store


@pytest.fixture
def silent() -> Iterator[threading.Event]:
    """What is waited for by calls that the store does not answer."""
    answer = threading.Event()
    yield answer
    answer.set()


async def test_an_outage_of_the_engine_ends_nothing_and_is_shown(plane: Plane) -> None:
    job_id = await plane.started()
    plane.cluster.reachable = False
    plane.clock.advance(86_400)
    await plane.settle()
    job = await plane.job(job_id)
    assert (job.state, job.conditions["BackendReachable"].status) == ("running", False)
    assert job.conditions["BackendReachable"].message

    plane.cluster.reachable = True
    plane.worker(job_id).progress(at=plane.clock(), images_seen=200)
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.conditions["BackendReachable"].status, job.attempt) == ("running", True, 1)
    events = await plane.events(job_id)
    assert [event for event in events if event.startswith("backend")] == ["backend_unreachable", "backend_reachable"]


async def test_an_outage_of_the_engine_does_not_hide_that_training_is_done(plane: Plane) -> None:
    job_id = await plane.started()
    plane.cluster.reachable = False
    await plane.end(job_id)

    assert (await plane.job(job_id)).state == "succeeded"


async def test_a_head_that_lost_its_memory_means_another_attempt_once_the_heartbeat_is_old(plane: Plane) -> None:
    job_id = await plane.started()
    await plane.cluster.forget()
    plane.clock.advance(60)
    await plane.settle()
    assert (await plane.job(job_id)).attempt == 1, "its driver may have survived its head"

    plane.clock.advance(60)
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.reason, job.attempt) == ("starting", "head_restarted", 2)


async def test_a_head_that_lost_its_memory_before_the_driver_began_means_another_attempt_at_once(plane: Plane) -> None:
    job_id = await plane.started(training=False)
    await plane.cluster.forget()
    await plane.settle()

    assert (await plane.job(job_id)).attempt == 2


async def test_a_head_that_came_back_empty_is_reachable(plane: Plane) -> None:
    job_id = await plane.started()
    plane.cluster.reachable = False
    await plane.settle()
    assert (await plane.job(job_id)).conditions["BackendReachable"].status is False

    plane.cluster.reachable = True
    await plane.cluster.forget()
    await plane.settle()

    assert (await plane.job(job_id)).conditions["BackendReachable"].status is True


async def test_reads_of_clients_that_hang_hold_up_neither_the_loops_nor_the_probes(
    tmp_path: Path, silent: threading.Event
) -> None:
    """A store may answer all but what is on one of its disks."""

    class HalfSilent(MemoryStore):
        def get(self, key: str) -> bytes:
            if "/samples/" in key:
                silent.wait()
            return super().get(key)

    async with served_in(tmp_path, store=HalfSilent()) as served, asyncio.TaskGroup() as clients:
        job_id = (await served.api.post("/v1/jobs", json={"spec": SPEC.model_dump(mode="json")})).json()["id"]
        path = f"/v1/jobs/{job_id}"
        for _ in range(MANY):
            clients.create_task(served.api.get(f"{path}/samples/100"))

        async def runs() -> bool:
            Worker(served.store, job_id).progress(at=datetime.now(UTC))
            return (await served.api.get(path)).json()["state"] == "running"

        try:
            await eventually(runs, what="the loops see that it trains")
            assert (await served.api.get("/healthz")).status_code == 200
            assert (await served.api.get("/readyz")).status_code == 200
        finally:
            silent.set()


async def test_a_store_that_fails_for_one_job_does_not_hold_up_another(tmp_path: Path, script: Script) -> None:
    store = FailingStore()
    async with plane_in(tmp_path, cluster=MemoryCluster(script), store=store) as plane:
        broken, sound = await plane.started(training=False), await plane.started(training=False)
        store.broken = f"jobs/{broken}/attempts"
        plane.worker(broken).outcome("succeeded", at=plane.clock())
        plane.worker(sound).outcome("succeeded", at=plane.clock())
        await plane.settle()
        assert [(await plane.job(one)).state for one in (broken, sound)] == ["starting", "succeeded"]

        store.broken = None
        await plane.settle()

        assert (await plane.job(broken)).state == "succeeded"


async def test_a_record_that_cannot_be_read_says_nothing(plane: Plane) -> None:
    job_id = await plane.started()
    plane.store.put(plane.worker(job_id).keys.outcome, b'{"status": "succ')
    await plane.settle()
    assert (await plane.job(job_id)).state == "running"

    await plane.end(job_id)

    assert (await plane.job(job_id)).state == "succeeded"


async def test_the_database_keeps_a_job_where_another_hand_moved_it(plane: Plane) -> None:
    """The reconciler decides on what it read; a cancellation meanwhile must win."""
    job_id = await plane.submit()
    seen = await plane.job(job_id)
    await plane.cancel(job_id)

    changed = replace(seen, state=JobState.STARTING)

    assert not await plane.jobs.apply(seen, changed, events=["state_changed"], at=plane.clock())
    assert (await plane.job(job_id)).state == "cancelled"


async def test_a_reconciler_that_slept_past_its_lease_changes_nothing(plane: Plane) -> None:
    job_id = await plane.started()
    await plane.parts.reconciler.finish()
    (taken,) = await plane.jobs.hold("slow", now=plane.clock(), seconds=60)
    plane.clock.advance(61)
    assert await plane.jobs.hold("quick", now=plane.clock(), seconds=60)

    written = await plane.jobs.apply(taken, replace(taken, message="late"), at=plane.clock(), lease="slow")

    assert written is None
    assert (await plane.job(job_id)).message is None
