"""Drivers and workers that die or fail, and those that are only said to: what becomes of the job."""

from pathlib import Path

import pytest

from service.cluster import MemoryCluster
from service.cluster.base import RunStatus
from service.cluster.memory import DriverLost
from service.jobs.presentation import attempt_view
from tests.support.plane import FailingStore, Plane, Script, plane_in, until_run


async def test_a_lost_driver_is_followed_by_another_attempt_until_there_were_enough(
    plane: Plane, script: Script
) -> None:
    job_id = await plane.started()
    for attempt in (1, 2, 3):
        script.exit(f"{job_id}-a{attempt}", 137)
        await until_run(plane, f"{job_id}-a{attempt}", RunStatus.FAILED)
        await plane.settle()
        if attempt < 3:
            job = await plane.job(job_id)
            assert (job.state, job.reason, job.attempt) == ("starting", "driver_lost", attempt + 1)

    job = await plane.job(job_id)
    assert (job.state, job.reason) == ("failed", "retries_exhausted")
    assert "exit code 137" in (job.message or "")
    assert plane.cluster.submission_ids == [f"{job_id}-a{n}" for n in (1, 2, 3)]
    reasons = [attempt.reason for attempt in await plane.jobs.attempts(job_id)]
    assert reasons == ["driver_lost", "driver_lost", "retries_exhausted"]


async def test_every_attempt_says_what_its_time_went_for(tmp_path: Path, script: Script) -> None:
    store = FailingStore()
    async with plane_in(tmp_path, cluster=MemoryCluster(script), store=store) as plane:
        job_id = await plane.started()
        plane.worker(job_id).progress(at=plane.clock(), useful=30.0)
        script.exit(f"{job_id}-a1", 137)
        await until_run(plane, f"{job_id}-a1", RunStatus.FAILED)
        await plane.settle()
        before = await useful_seconds(plane, job_id)
        plane.worker(job_id, 2).progress(at=plane.clock(), useful=5.0)
        after = await useful_seconds(plane, job_id)

        store.broken = f"jobs/{job_id}/attempts"

        assert (before, after) == ([30.0, None], [30.0, 5.0])
        assert await useful_seconds(plane, job_id) == [None, None], "it is shown without"


async def useful_seconds(plane: Plane, job_id: str) -> list[float | None]:
    found = await plane.parts.results.attempts(await plane.job(job_id))
    ledgers = [attempt_view(attempt, word).ledger for attempt, word in found]
    return [ledger and ledger.useful for ledger in ledgers]


async def test_a_job_that_gets_on_between_losses_is_never_given_up(plane: Plane, script: Script) -> None:
    job_id = await plane.started()
    for attempt in (1, 2, 3, 4, 5):
        plane.worker(job_id, attempt).progress(at=plane.clock(), images_seen=attempt, checkpoint=attempt)
        await plane.settle()
        script.exit(f"{job_id}-a{attempt}", 137)
        await until_run(plane, f"{job_id}-a{attempt}", RunStatus.FAILED)
        await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.attempt, job.platform_failures) == ("starting", 6, 1)
    latest = await plane.jobs.attempt(job_id, 6)
    assert latest
    assert latest.from_images == 5


async def test_the_next_attempt_waits_for_the_end_of_its_pause(tmp_path: Path, script: Script) -> None:
    retries = {"back_off_seconds": 10.0, "platform": 2}
    async with plane_in(tmp_path, cluster=MemoryCluster(script), retries=retries) as plane:
        job_id = await plane.started()
        script.exit(f"{job_id}-a1", 1)
        await until_run(plane, f"{job_id}-a1", RunStatus.FAILED)
        await plane.settle()
        waiting = await plane.job(job_id)
        assert (waiting.state, waiting.attempt, waiting.reason) == ("recovering", 1, "driver_lost")

        assert waiting.not_before
        seconds = (waiting.not_before - plane.clock()).total_seconds()
        assert 5 <= seconds <= 10
        plane.clock.advance(seconds - 1)
        await plane.settle()
        assert (await plane.job(job_id)).state == "recovering"

        plane.clock.advance(1)
        await plane.settle()
        assert ((await plane.job(job_id)).state, (await plane.job(job_id)).attempt) == ("starting", 2)


async def test_a_false_failure_of_the_engine_is_no_second_copy(plane: Plane, script: Script) -> None:
    """A head that comes back may call a living driver FAILED; its heartbeats say otherwise."""
    job_id = await plane.started()
    script.crash(f"{job_id}-a1", DriverLost("JOB_SUPERVISOR_ACTOR_DIED"))
    await until_run(plane, f"{job_id}-a1", RunStatus.FAILED)
    for images in range(200, 320, 10):
        plane.clock.advance(60)
        plane.worker(job_id).progress(at=plane.clock(), images_seen=images)
        await plane.settle()
    assert (await plane.job(job_id)).attempt == 1

    await plane.end(job_id)

    assert ((await plane.job(job_id)).state, plane.cluster.submission_ids) == ("succeeded", [f"{job_id}-a1"])


async def test_a_lost_supervisor_is_believed_when_the_heartbeat_stops(plane: Plane, script: Script) -> None:
    job_id = await plane.started()
    script.crash(f"{job_id}-a1", DriverLost("JOB_SUPERVISOR_ACTOR_DIED"))
    await until_run(plane, f"{job_id}-a1", RunStatus.FAILED)
    plane.clock.advance(60)
    await plane.settle()
    assert (await plane.job(job_id)).attempt == 1

    plane.clock.advance(60)
    await plane.settle()

    assert (await plane.job(job_id)).attempt == 2


@pytest.mark.parametrize("skew_seconds", [-86_400, 86_400])
async def test_a_worker_whose_clock_is_wrong_is_heard_all_the_same(
    plane: Plane, script: Script, skew_seconds: float
) -> None:
    job_id = await plane.started()
    script.crash(f"{job_id}-a1", DriverLost("JOB_SUPERVISOR_ACTOR_DIED"))
    await until_run(plane, f"{job_id}-a1", RunStatus.FAILED)
    plane.clock.advance(60)
    theirs = plane.clock.now.replace(day=2) if skew_seconds > 0 else plane.clock.now.replace(year=2025)
    plane.worker(job_id).progress(at=theirs, images_seen=200)
    await plane.settle()
    plane.clock.advance(60)
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.attempt, job.conditions["Heartbeating"].status) == (1, True)


async def test_a_worker_that_dies_is_shown_and_its_return_too(plane: Plane) -> None:
    job_id = await plane.started()
    plane.worker(job_id).progress(at=plane.clock(), phase="preparing", images_seen=160)
    await plane.settle()
    job = await plane.job(job_id)
    assert (job.state, job.reason, job.attempt) == ("recovering", "worker_lost", 1)

    plane.worker(job_id).progress(at=plane.clock(), images_seen=176)
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.reason) == ("running", None)


@pytest.mark.parametrize("reason", ["data_error", "non_finite_loss"])
async def test_a_failed_outcome_fails_the_job_with_its_reason(plane: Plane, reason: str) -> None:
    job_id = await plane.started()

    await plane.end(job_id, "failed", reason=reason, message="3 images cannot be read")

    job = await plane.job(job_id)
    assert (job.state, job.reason, job.message, job.attempt) == ("failed", reason, "3 images cannot be read", 1)


async def test_an_attempt_stopped_by_something_else_is_followed_by_another(plane: Plane) -> None:
    job_id = await plane.started()

    await plane.end(job_id, "stopped")

    job = await plane.job(job_id)
    assert (job.state, job.reason, job.attempt) == ("starting", "stopped", 2)


async def test_an_error_that_comes_twice_at_the_same_point_is_not_tried_a_third_time(
    tmp_path: Path, script: Script
) -> None:
    retries = {"back_off_seconds": 0.0, "user": 5}
    async with plane_in(tmp_path, cluster=MemoryCluster(script), retries=retries) as plane:
        job_id = await plane.started()
        for attempt in (1, 2):
            plane.worker(job_id, attempt).progress(at=plane.clock(), images_seen=128)
            await plane.end(job_id, "failed", reason="internal", message="KeyError")

        job = await plane.job(job_id)
        assert (job.state, job.reason, job.attempt) == ("failed", "poison", 2)
