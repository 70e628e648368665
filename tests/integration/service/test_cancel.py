"""Cancelling, from the wish to what the engine and the store see."""

from datetime import timedelta
from pathlib import Path

import pytest

from service.cluster import MemoryCluster
from service.errors import StateConflict
from service.jobs.lifecycle import Intent
from tests.support.leaving import leaves_well, left
from tests.support.plane import Plane, Script, plane_in


async def test_a_queued_job_is_cancelled_at_once_and_never_runs(plane: Plane) -> None:
    job_id = await plane.submit()

    cancelled = await plane.cancel(job_id)
    await plane.settle()

    assert cancelled.state == "cancelled"
    assert plane.cluster.submission_ids == []
    with pytest.raises(StateConflict) as caught:
        await plane.cancel(job_id)
    assert caught.value.extra == {
        "current_state": "cancelled",
        "allowed": ["archive", "delete", "fork", "replay", "retry"],
    }


async def test_a_running_job_is_stopped_and_cancelled_when_it_has_left(plane: Plane, script: Script) -> None:
    job_id = await plane.started()
    leaves_well(plane, script, job_id)

    assert (await plane.cancel(job_id)).state == "cancelling"
    assert (await plane.cancel(job_id)).state == "cancelling", "asking again is harmless"
    await left(plane, job_id)

    job = await plane.job(job_id)
    assert (job.state, job.message, job.unclean, job.reason) == ("cancelled", "left at 200 images", False, None)
    assert (await plane.events(job_id))[-2:] == ["cancelling", "cancelled"]


async def test_a_driver_that_leaves_without_a_word_when_cancelled_is_unclean(plane: Plane, script: Script) -> None:
    job_id = await plane.started()

    await plane.cancel(job_id)
    await left(plane, job_id)

    job = await plane.job(job_id)
    assert (job.state, job.reason, job.unclean) == ("cancelled", "stopped", True)


async def test_a_job_that_is_done_before_it_can_be_cancelled_succeeds(plane: Plane) -> None:
    job_id = await plane.started()

    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    await plane.cancel(job_id)
    await plane.settle()

    assert (await plane.job(job_id)).state == "succeeded"


async def test_cancelling_between_writing_down_and_submitting_keeps_the_driver_out(plane: Plane) -> None:
    job_id = await plane.submit()
    await plane.parts.scheduler.tick()
    assert plane.cluster.submission_ids == []

    await plane.cancel(job_id)
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.unclean) == ("cancelled", False)
    assert plane.cluster.submission_ids == []
    assert not plane.worker(job_id).claim(at=plane.clock()), "a submission that was on its way finds a claim"


async def test_stopping_a_pending_submission_is_repeated_until_it_works(tmp_path: Path, script: Script) -> None:
    cluster = MemoryCluster(script, num_slots=0)
    async with plane_in(tmp_path, cluster=cluster) as plane:
        job_id = await plane.started(training=False)
        await plane.cancel(job_id)
        await plane.settle()
        assert (await plane.job(job_id)).state == "cancelling"

        cluster.num_slots = 1
        await left(plane, job_id)

        assert (await plane.job(job_id)).state == "cancelled"


async def test_a_driver_that_does_not_leave_in_time_is_fenced(plane: Plane, script: Script) -> None:
    script.is_stubborn = True
    job_id = await plane.started()
    await plane.cancel(job_id)
    plane.clock.advance(plane.settings.stop_patience.total_seconds())
    await plane.settle()
    assert (await plane.job(job_id)).state == "cancelling"

    plane.clock.advance(1)
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.reason, job.unclean) == ("cancelled", "stopped", True)
    assert await plane.objects.newest_claim(job_id) == 2, "its checkpoints no longer count"


async def test_cancel_now_does_not_wait_for_a_last_checkpoint(plane: Plane, script: Script) -> None:
    script.is_stubborn = True
    job_id = await plane.started()

    await plane.cancel(job_id, mode="now")
    plane.clock.advance(0.001)
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.unclean) == ("cancelled", True)


async def test_a_cancellation_holds_even_if_the_engine_never_answers_again(plane: Plane) -> None:
    job_id = await plane.started()
    plane.cluster.reachable = False
    await plane.cancel(job_id, grace_seconds=60)
    await plane.settle()
    assert (await plane.job(job_id)).state == "cancelling"

    plane.clock.advance(61)
    await plane.settle()

    assert ((await plane.job(job_id)).state, (await plane.job(job_id)).unclean) == ("cancelled", True)


async def test_of_two_cancellations_the_shorter_grace_holds(plane: Plane, script: Script) -> None:
    script.is_stubborn = True
    job_id = await plane.started()
    await plane.cancel(job_id, grace_seconds=600)
    await plane.cancel(job_id, grace_seconds=10)
    await plane.cancel(job_id, grace_seconds=600)

    plane.clock.advance(11)
    await plane.settle()

    assert (await plane.job(job_id)).state == "cancelled"
    assert (await plane.events(job_id)).count("stop_changed") == 1


async def test_a_cancellation_holds_that_comes_while_the_engine_is_told_of_another_end(
    plane: Plane, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that is its user's is not replaced by that of a stop which was on its way."""
    script.is_stubborn = True
    job_id = await plane.started(max_runtime_seconds=60.0)
    stop = plane.cluster.stop

    async def slow_stop(submission_id: str) -> None:
        monkeypatch.undo()
        await stop(submission_id)
        await plane.cancel(job_id, grace_seconds=10)

    plane.clock.advance(61)
    await plane.parts.reconciler.tick()
    assert (await plane.job(job_id)).intent is Intent.EXPIRE
    plane.clock.advance(1)
    monkeypatch.setattr(plane.cluster, "stop", slow_stop)
    await plane.settle()

    asked = await plane.job(job_id)
    assert (asked.intent, asked.stop_by) == (Intent.CANCEL, plane.clock() + timedelta(seconds=10))
