"""Out of the engine and back into it: pause, resume, preemption, retry."""

from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from service.cluster.base import ClusterUnreachable, RunStatus
from service.errors import StateConflict
from service.jobs.lifecycle import Intent
from service.jobs.records import asked
from tests.support.leaving import leaves_well, left
from tests.support.lost_database import Site
from tests.support.plane import REQUESTER, Plane, Script, until_run


async def test_a_paused_job_frees_its_workers_and_goes_on_from_its_checkpoint_when_resumed(
    plane: Plane, script: Script
) -> None:
    job_id = await plane.started()
    leaves_well(plane, script, job_id)
    assert (await plane.service.pause(job_id, requester=REQUESTER)).state == "pausing"
    await left(plane, job_id)
    paused = await plane.job(job_id)
    assert (paused.state, paused.message, paused.unclean) == ("paused", "left at 200 images", False)
    assert await plane.jobs.active() == []
    plane.clock.advance(86_400)
    await plane.settle()
    assert (await plane.job(job_id)).state == "paused"

    assert (await plane.service.resume(job_id, requester=REQUESTER)).state == "queued"
    await plane.settle()

    resumed = await plane.job(job_id)
    attempt = await plane.jobs.attempt(job_id, 2)
    assert attempt
    assert (resumed.state, resumed.attempt, attempt.from_images) == ("starting", 2, 200)
    assert plane.cluster.submission_ids == [f"{job_id}-a1", f"{job_id}-a2"]


async def test_a_queued_job_can_be_paused_and_keeps_nothing_busy(plane: Plane) -> None:
    job_id = await plane.submit()

    assert (await plane.service.pause(job_id, requester=REQUESTER)).state == "paused"
    await plane.settle()

    assert plane.cluster.submission_ids == []


async def test_a_job_that_fails_while_it_is_being_paused_has_failed(plane: Plane) -> None:
    job_id = await plane.started()
    await plane.service.pause(job_id, requester=REQUESTER)
    await plane.end(job_id, "failed", reason="non_finite_loss")

    assert ((await plane.job(job_id)).state, (await plane.job(job_id)).reason) == ("failed", "non_finite_loss")


async def test_a_paused_job_can_be_cancelled(plane: Plane, script: Script) -> None:
    job_id = await plane.started()
    await plane.service.pause(job_id, requester=REQUESTER)
    await left(plane, job_id)

    assert (await plane.cancel(job_id)).state == "cancelled"


async def test_a_preempted_job_goes_back_to_the_queue_and_on_from_its_checkpoint(plane: Plane, script: Script) -> None:
    job_id = await plane.started()
    leaves_well(plane, script, job_id)
    job = await plane.job(job_id)
    leaving = asked(job, Intent.PREEMPT, at=plane.clock(), grace=plane.settings.stop_patience)
    assert await plane.jobs.apply(job, leaving, events=["state_changed"], at=plane.clock())
    while await plane.parts.reconciler.tick():
        pass
    await until_run(plane, f"{job_id}-a1", RunStatus.STOPPED)
    await plane.parts.reconciler.tick()
    waiting = await plane.job(job_id)
    assert (waiting.state, waiting.reason, waiting.unclean) == ("queued", "preempted", False)

    await plane.settle()

    attempt = await plane.jobs.attempt(job_id, 2)
    assert attempt
    assert ((await plane.job(job_id)).state, attempt.from_images) == ("starting", 200)
    assert (await plane.events(job_id))[-3:] == ["pausing", "queued", "attempt_started"]


async def test_a_pause_that_nobody_could_tell_the_engine_in_time_leaves_a_checkpoint_all_the_same(
    plane: Plane, script: Script
) -> None:
    """The service was away past the deadline: the attempt has heard of nothing yet."""
    job_id = await plane.started()
    leaves_well(plane, script, job_id)
    await plane.service.pause(job_id, requester=REQUESTER)
    plane.clock.advance(3600)

    await left(plane, job_id)

    paused = await plane.job(job_id)
    assert (paused.state, paused.message, paused.unclean) == ("paused", "left at 200 images", False)


async def test_a_pause_is_told_late_if_the_engine_does_not_answer_the_first_looks_after_its_deadline(
    plane: Plane, script: Script
) -> None:
    job_id = await plane.started()
    leaves_well(plane, script, job_id)
    await plane.service.pause(job_id, requester=REQUESTER)
    plane.clock.advance(3600)
    plane.cluster.reachable = False
    await plane.settle()
    plane.clock.advance(plane.settings.stop_patience.total_seconds())
    await plane.settle()
    assert (await plane.job(job_id)).state == "pausing"

    plane.cluster.reachable = True
    await left(plane, job_id)

    paused = await plane.job(job_id)
    assert (paused.state, paused.message, paused.unclean) == ("paused", "left at 200 images", False)


async def test_a_pause_holds_even_if_the_engine_never_answers_again(plane: Plane) -> None:
    job_id = await plane.started()
    await plane.service.pause(job_id, requester=REQUESTER)
    plane.clock.advance(3600)
    plane.cluster.reachable = False
    await plane.settle()

    plane.clock.advance(plane.settings.stop_patience.total_seconds() + 1)
    await plane.settle()

    paused = await plane.job(job_id)
    assert (paused.state, paused.unclean) == ("paused", True)


async def test_what_an_engine_did_not_answer_to_an_earlier_service_is_asked_anew(
    tmp_path: Path, script: Script
) -> None:
    """The engine was away first, then the service; then both come back, the engine a little later."""
    site = Site(tmp_path, script)
    async with site.plane() as before:
        job_id = await before.started()
        site.cluster.reachable = False
        await before.service.pause(job_id, requester=REQUESTER)
        await before.settle()
    site.clock.advance(3600)

    async with site.plane() as plane:
        leaves_well(plane, script, job_id)
        await plane.settle()
        assert (await plane.job(job_id)).state == "pausing"
        site.cluster.reachable = True
        await left(plane, job_id)

        paused = await plane.job(job_id)
        assert (paused.state, paused.message, paused.unclean) == ("paused", "left at 200 images", False)


def refuse_stops(plane: Plane, patched: pytest.MonkeyPatch) -> None:
    patched.setattr(plane.cluster, "stop", AsyncMock(side_effect=ClusterUnreachable("500: no agent")))


async def test_a_stop_that_is_refused_once_long_after_its_deadline_is_sent_again(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service was away meanwhile."""
    site = Site(tmp_path, script)
    async with site.plane() as before:
        job_id = await before.started()
        await before.service.pause(job_id, requester=REQUESTER)
    site.clock.advance(3600)

    async with site.plane() as plane:
        leaves_well(plane, script, job_id)
        with monkeypatch.context() as patched:
            refuse_stops(plane, patched)
            await plane.settle()
        assert (await plane.job(job_id)).state == "pausing"
        await left(plane, job_id)

        paused = await plane.job(job_id)
        assert (paused.state, paused.message, paused.unclean) == ("paused", "left at 200 images", False)


async def test_so_it_is_by_a_service_that_lived_on_and_could_not_look(
    plane: Plane, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await plane.started()
    await plane.service.pause(job_id, requester=REQUESTER)
    plane.clock.advance(3600)
    leaves_well(plane, script, job_id)

    with monkeypatch.context() as patched:
        refuse_stops(plane, patched)
        await plane.settle()
    assert (await plane.job(job_id)).state == "pausing"
    await left(plane, job_id)

    assert (await plane.job(job_id)).unclean is False


async def test_an_engine_that_answers_looks_and_takes_no_stop_keeps_no_job_for_ever(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_stops(plane, monkeypatch)
    job_id = await plane.started()
    await plane.service.pause(job_id, requester=REQUESTER)
    await plane.settle()
    assert (await plane.job(job_id)).state == "pausing"

    plane.clock.advance(2 * plane.settings.stop_patience.total_seconds() + 1)
    await plane.settle()

    paused = await plane.job(job_id)
    assert (paused.state, paused.unclean) == ("paused", True)


async def test_one_that_is_told_late_and_does_not_leave_is_fenced_when_its_time_is_over(
    plane: Plane, script: Script
) -> None:
    script.is_stubborn = True
    job_id = await plane.started()
    await plane.service.pause(job_id, requester=REQUESTER)
    plane.clock.advance(3600)
    await plane.settle()
    plane.clock.advance(plane.settings.stop_patience.total_seconds())
    await plane.settle()
    assert (await plane.job(job_id)).state == "pausing"

    plane.clock.advance(1)
    await plane.settle()

    paused = await plane.job(job_id)
    assert (paused.state, paused.unclean) == ("paused", True)


async def test_a_failed_job_is_tried_again_from_its_checkpoint_with_fresh_budgets(plane: Plane) -> None:
    job_id = await plane.started()
    plane.worker(job_id).progress(at=plane.clock(), images_seen=160, checkpoint=160)
    await plane.end(job_id, "failed", reason="data_error")
    assert (await plane.job(job_id)).state == "failed"

    assert (await plane.service.retry(job_id, requester=REQUESTER)).ended_at is None
    await plane.settle()

    job = await plane.job(job_id)
    attempt = await plane.jobs.attempt(job_id, 2)
    assert attempt
    assert (job.state, job.reason, job.attempt, attempt.from_images) == ("starting", None, 2, 160)
    await plane.end(job_id)
    assert (await plane.job(job_id)).state == "succeeded"


async def test_a_retry_after_a_fence_is_behind_it(plane: Plane, script: Script) -> None:
    script.is_stubborn = True
    job_id = await plane.started()
    await plane.cancel(job_id, mode="now")
    plane.clock.advance(1)
    await plane.settle()

    await plane.service.retry(job_id, requester=REQUESTER)
    await plane.settle()

    assert (await plane.job(job_id)).attempt == 3
    assert plane.worker(job_id, 3).claim(at=plane.clock())


async def test_a_job_that_succeeded_is_not_tried_again(plane: Plane) -> None:
    job_id = await plane.started()
    await plane.end(job_id)

    with pytest.raises(StateConflict):
        await plane.service.retry(job_id, requester=REQUESTER)
