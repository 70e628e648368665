"""A job that nobody can deal with, for a reason that nobody has thought of, keeps no other from being dealt with."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, event

from service.cluster import MemoryCluster
from service.cluster.base import ClusterUnreachable, Run, RunStatus
from service.jobs.reconciler import Reconciler
from service.jobs.views import OF_JOB
from tests.support.plane import DEADLINE_SECONDS, REQUESTER, Plane, Script, plane_in, until_run
from workers.contract.keys import JobKeys


class Poisoned(MemoryCluster):
    """Answers in a way that nobody expects when it is asked for what one job has submitted."""

    poison: str | None = None
    error: Exception | None = KeyError("nobody has thought of it")  # None: it does not answer at all
    times = 0

    async def find(self, submission_id: str) -> Run | None:
        if self.poison and submission_id.startswith(self.poison):
            self.times += 1
            if self.error is None:
                await asyncio.Event().wait()
            raise self.error or AssertionError("it never gets here")
        return await super().find(submission_id)


@pytest.fixture
def cluster(script: Script) -> Poisoned:
    return Poisoned(script)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def plane(tmp_path: Path, cluster: Poisoned, registry: CollectorRegistry) -> AsyncIterator[Plane]:
    async with plane_in(tmp_path, cluster=cluster, registry=registry) as plane:
        yield plane


async def ended(plane: Plane, script: Script) -> str:
    """One whose driver is gone, too."""
    job_id = await plane.started()
    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    script.exit(f"{job_id}-a1", 0)
    await until_run(plane, f"{job_id}-a1", RunStatus.SUCCEEDED)
    await plane.settle()
    return job_id


async def test_a_look_that_fails_is_counted_and_others_are_looked_at(
    plane: Plane, cluster: Poisoned, registry: CollectorRegistry
) -> None:
    bad, good = await plane.started(), await plane.started()
    for job_id in (bad, good):
        plane.worker(job_id).outcome("succeeded", at=plane.clock())
    cluster.poison = bad

    await plane.parts.reconciler.tick()

    assert (await plane.job(good)).state == "succeeded"
    assert (await plane.job(bad)).state == "running"
    assert registry.get_sample_value("cdm_job_looks_total", {"result": "failed"}) == 1
    cluster.poison = None
    await plane.settle()
    assert (await plane.job(bad)).state == "succeeded", "its lease was given back"


async def test_a_look_that_gets_no_answer_holds_up_no_other_and_is_counted_all_the_while(
    plane: Plane, cluster: Poisoned, registry: CollectorRegistry
) -> None:
    bad, good = await plane.started(), await plane.started()
    cluster.poison, cluster.error = bad, None
    reconciler = replace(plane.parts.reconciler, patience_seconds=0.01)
    await reconciler.tick()
    plane.worker(good).outcome("succeeded", at=plane.clock())
    ticks = 0

    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await plane.job(good)).state != "succeeded":
            await reconciler.tick()
            ticks += 1

    assert registry.get_sample_value("cdm_job_looks_total", {"result": "postponed"}) == ticks
    assert cluster.times == 1, "it is not asked again while the answer may come"
    await reconciler.finish()
    cluster.poison = None
    plane.worker(bad).outcome("succeeded", at=plane.clock())
    await another(plane).tick()
    assert (await plane.job(bad)).state == "succeeded", "what was cut off is left to others"


def another(plane: Plane) -> Reconciler:
    """Of another replica."""
    replica = replace(plane.parts.replica, token="another")
    return replace(plane.parts.reconciler, replica=replica, actions=replace(plane.parts.actions, replica=replica))


async def test_a_job_stays_with_the_replica_that_has_it_until_that_is_gone(plane: Plane) -> None:
    job_id = await plane.started()
    other, leases_written = another(plane), list[str]()

    def note(_c: object, _k: object, statement: str, _p: object, _x: object, _m: object) -> None:
        leases_written.extend([statement] if "lease_until=" in statement else [])

    event.listen(Engine, "before_cursor_execute", note)
    for _ in range(30):
        plane.clock.advance(1)
        await plane.parts.reconciler.tick()
        plane.worker(job_id).progress(at=plane.clock())
        await other.tick()
    event.remove(Engine, "before_cursor_execute", note)

    assert len(leases_written) <= 2, "a lease is not written at each look"
    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    await other.tick()
    assert (await plane.job(job_id)).state == "running"
    plane.clock.advance(61)
    await other.tick()
    assert (await plane.job(job_id)).state == "succeeded"


@pytest.mark.parametrize("error", [KeyError("unforeseen"), ClusterUnreachable("away")])
async def test_a_replica_whose_look_fails_leaves_the_job_to_others(
    plane: Plane, cluster: Poisoned, error: Exception
) -> None:
    job_id = await plane.started()
    cluster.poison, cluster.error = job_id, error
    await plane.parts.reconciler.tick()
    cluster.poison = None
    plane.worker(job_id).outcome("succeeded", at=plane.clock())

    await another(plane).tick()

    assert (await plane.job(job_id)).state == "succeeded"


async def test_a_log_that_cannot_be_copied_keeps_no_other_from_it(
    plane: Plane, cluster: Poisoned, script: Script
) -> None:
    bad, good = await ended(plane, script), await ended(plane, script)
    cluster.poison = bad

    await plane.aftercare.tick()

    assert await plane.objects.log_sources(good, 1) == ["driver", "engine"]
    assert [attempt.job_id for attempt in await plane.jobs.with_log_due()] == [bad]


async def test_what_cannot_be_purged_keeps_nothing_else_from_it(plane: Plane, script: Script) -> None:
    bad, good = await ended(plane, script), await ended(plane, script)
    for job_id in (bad, good):
        plane.store.put(JobKeys(job_id).sample(160), b"png")
        await plane.service.delete(job_id, requester=REQUESTER, purge=("samples",))
    deleted = await plane.jobs.find(bad)
    assert deleted
    await plane.jobs.apply(deleted, replace(deleted, purge_due=("of a later release",)), at=plane.clock())

    await plane.parts.purges.tick()

    assert plane.store.list(JobKeys(good).samples) == []
    assert [job.id for job in await plane.jobs.with_purge_due()] == [bad]


async def test_evaluations_that_nobody_can_read_keep_no_others_from_being_submitted(plane: Plane) -> None:
    bad, good = [await plane.started(evaluations={"num_images": 100}) for _ in range(2)]
    for job_id in (bad, good):
        plane.worker(job_id).checkpoint(160, at=plane.clock())
    job = await plane.job(bad)
    await plane.jobs.apply(job, replace(job, evaluations="[]"), at=plane.clock())

    await plane.followups.tick()

    [evaluation] = {*await plane.objects.job_ids()} - {bad, good}
    assert (await plane.job(evaluation)).labels[OF_JOB] == good
