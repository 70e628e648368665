"""Cancel, pause, resume, retry, fork, archive, delete, update: from the wish to what the engine and the store see."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.cluster import MemoryCluster
from service.cluster.base import RunStatus
from service.errors import CheckpointNotFound, InvalidRequest, JobGone, StateConflict
from service.jobs.lifecycle import Intent
from service.jobs.records import asked
from service.jobs.store import Filters
from service.jobs.views import ForkCreate, JobUpdate
from service.web.errors import PreconditionFailed
from service.web.etags import etag
from tests.support.plane import ORIGIN, Plane, Script, plane_in, served_in, until_run
from workers.contract.keys import JobKeys
from workers.contract.presets import PRESETS
from workers.contract.records import Origin


async def left(plane: Plane, script: Script, job_id: str, attempt: int = 1) -> None:
    """Let the driver leave as it was asked to, and look."""
    await plane.settle()
    await until_run(plane, f"{job_id}-a{attempt}", RunStatus.STOPPED)
    await plane.settle()


def leaves_well(plane: Plane, script: Script, job_id: str, attempt: int = 1, *, images_seen: int = 200) -> None:
    """The driver will leave a checkpoint when it is asked to leave."""

    def last_words() -> None:
        worker = plane.worker(job_id, attempt)
        worker.progress(at=plane.clock(), images_seen=images_seen, checkpoint=images_seen)
        worker.checkpoint(images_seen, at=plane.clock())
        worker.outcome("stopped", at=plane.clock(), message=f"left at {images_seen} images")

    script.last_words = last_words


# Cancel


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
        "allowed": ["archive", "delete", "fork", "restore", "retry"],
    }


async def test_a_running_job_is_stopped_and_cancelled_when_it_has_left(plane: Plane, script: Script) -> None:
    job_id = await plane.started()
    leaves_well(plane, script, job_id)

    assert (await plane.cancel(job_id)).state == "cancelling"
    assert (await plane.cancel(job_id)).state == "cancelling", "asking again is harmless"
    await left(plane, script, job_id)

    job = await plane.job(job_id)
    assert (job.state, job.message, job.unclean, job.reason) == ("cancelled", "left at 200 images", False, None)
    assert (await plane.events(job_id))[-2:] == ["cancelling", "cancelled"]


async def test_a_driver_that_leaves_without_a_word_when_cancelled_is_unclean(plane: Plane, script: Script) -> None:
    job_id = await plane.started()

    await plane.cancel(job_id)
    await left(plane, script, job_id)

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
        await left(plane, script, job_id)

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


# Pause, resume, preempt


async def test_a_paused_job_frees_its_workers_and_goes_on_from_its_checkpoint_when_resumed(
    plane: Plane, script: Script
) -> None:
    job_id = await plane.started()
    leaves_well(plane, script, job_id)
    assert (await plane.service.pause(job_id, origin=ORIGIN)).state == "pausing"
    await left(plane, script, job_id)
    paused = await plane.job(job_id)
    assert (paused.state, paused.message, paused.unclean) == ("paused", "left at 200 images", False)
    assert await plane.jobs.active() == []
    plane.clock.advance(86_400)
    await plane.settle()
    assert (await plane.job(job_id)).state == "paused"

    assert (await plane.service.resume(job_id, origin=ORIGIN)).state == "queued"
    await plane.settle()

    resumed = await plane.job(job_id)
    attempt = await plane.jobs.attempt(job_id, 2)
    assert attempt
    assert (resumed.state, resumed.attempt, attempt.from_images) == ("starting", 2, 200)
    assert plane.cluster.submission_ids == [f"{job_id}-a1", f"{job_id}-a2"]


async def test_a_queued_job_can_be_paused_and_keeps_nothing_busy(plane: Plane) -> None:
    job_id = await plane.submit()

    assert (await plane.service.pause(job_id, origin=ORIGIN)).state == "paused"
    await plane.settle()

    assert plane.cluster.submission_ids == []


async def test_a_job_that_fails_while_it_is_being_paused_has_failed(plane: Plane) -> None:
    job_id = await plane.started()
    await plane.service.pause(job_id, origin=ORIGIN)
    plane.worker(job_id).outcome("failed", at=plane.clock(), reason="non_finite_loss")
    await plane.settle()

    assert ((await plane.job(job_id)).state, (await plane.job(job_id)).reason) == ("failed", "non_finite_loss")


async def test_a_paused_job_can_be_cancelled(plane: Plane, script: Script) -> None:
    job_id = await plane.started()
    await plane.service.pause(job_id, origin=ORIGIN)
    await left(plane, script, job_id)

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


# Retry


async def test_a_failed_job_is_tried_again_from_its_checkpoint_with_fresh_budgets(plane: Plane) -> None:
    job_id = await plane.started()
    plane.worker(job_id).progress(at=plane.clock(), images_seen=160, checkpoint=160)
    plane.worker(job_id).outcome("failed", at=plane.clock(), reason="data_error")
    await plane.settle()
    assert (await plane.job(job_id)).state == "failed"

    assert (await plane.service.retry(job_id, origin=ORIGIN)).ended_at is None
    await plane.settle()

    job = await plane.job(job_id)
    attempt = await plane.jobs.attempt(job_id, 2)
    assert attempt
    assert (job.state, job.reason, job.attempt, attempt.from_images) == ("starting", None, 2, 160)
    plane.worker(job_id, 2).outcome("succeeded", at=plane.clock())
    await plane.settle()
    assert (await plane.job(job_id)).state == "succeeded"


async def test_a_retry_after_a_fence_is_behind_it(plane: Plane, script: Script) -> None:
    script.is_stubborn = True
    job_id = await plane.started()
    await plane.cancel(job_id, mode="now")
    plane.clock.advance(1)
    await plane.settle()

    await plane.service.retry(job_id, origin=ORIGIN)
    await plane.settle()

    assert (await plane.job(job_id)).attempt == 3
    assert plane.worker(job_id, 3).claim(at=plane.clock())


async def test_a_job_that_succeeded_is_not_tried_again(plane: Plane) -> None:
    job_id = await plane.started()
    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    await plane.settle()

    with pytest.raises(StateConflict):
        await plane.service.retry(job_id, origin=ORIGIN)


# Fork


async def with_checkpoints(plane: Plane) -> str:
    job_id = await plane.started()
    for images_seen in (100, 160, 200):
        plane.worker(job_id).checkpoint(images_seen, at=plane.clock())
    return job_id


async def forked(plane: Plane, parent: str, **request: Any) -> tuple[str, list[str]]:
    """The new job's id, and where its document differs."""
    fork = ForkCreate.model_validate(request)
    plane.clock.advance(0.01)
    job, changes = await plane.service.fork(parent, fork, origin=ORIGIN)
    return job.id, [change.pointer for change in changes]


def origin_of(plane: Plane, job_id: str) -> tuple[str, int, int]:
    origin = Origin.model_validate_json(plane.store.get(JobKeys(job_id).origin))
    return origin.job_id, origin.images_seen, origin.attempt


async def test_a_fork_is_a_new_job_that_starts_from_the_newest_checkpoint_and_shows_what_differs(plane: Plane) -> None:
    parent = await with_checkpoints(plane)

    child, changes = await forked(plane, parent, overrides={"optimizer": {"learning_rate": 0.01}})

    job = await plane.job(child)
    assert (job.parent_job_id, job.parent_images) == (parent, 200)
    assert changes == ["/optimizer/learning_rate"]
    assert origin_of(plane, child) == (parent, 200, 1)
    await plane.settle()
    assert (await plane.job(child)).state == "starting"
    assert (await plane.job(parent)).state == "running"


@pytest.mark.parametrize(("at", "expected"), [(199, 160), (160, 160), (100, 100), (10_000, 200)])
async def test_a_fork_can_start_from_an_earlier_checkpoint(plane: Plane, at: int, expected: int) -> None:
    parent = await with_checkpoints(plane)

    child, _ = await forked(plane, parent, source={"images_seen": at})

    assert origin_of(plane, child)[1] == expected


async def test_a_fork_can_start_from_the_checkpoint_where_a_curve_is_lowest(plane: Plane) -> None:
    parent = await with_checkpoints(plane)
    plane.mlflow.curves["loss/dsm"] = {90: 0.4, 150: 0.2, 190: 0.3}

    child, _ = await forked(plane, parent, source={"best": "loss/dsm"})

    assert origin_of(plane, child)[1] == 160
    with pytest.raises(CheckpointNotFound):
        await forked(plane, parent, source={"best": "loss/none"})


async def test_a_fork_needs_a_checkpoint_and_something_to_do(plane: Plane) -> None:
    young = await plane.started()
    with pytest.raises(CheckpointNotFound):
        await forked(plane, young)
    parent = await with_checkpoints(plane)
    with pytest.raises(CheckpointNotFound):
        await forked(plane, parent, source={"images_seen": 99})
    with pytest.raises(InvalidRequest) as caught:
        await forked(plane, parent, overrides={"network": {"channels": 16}, "duration_images": 160})

    assert {problem.pointer for problem in caught.value.problems} == {
        "/overrides/network",
        "/overrides/duration_images",
    }
    assert len(await plane.jobs.queue(limit=10)) == 0, "nothing was written down"


# Archive, restore, delete, update


async def ended(plane: Plane) -> str:
    job_id = await plane.started()
    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    await plane.settle()
    return job_id


async def test_what_is_refused_says_what_else_could_be_done(tmp_path: Path) -> None:
    async with served_in(tmp_path) as served:
        body = {"spec": PRESETS["smoke"].model_dump(mode="json")}
        job_id = (await served.api.post("/v1/jobs", json=body)).json()["id"]
        refused = await served.api.post(f"/v1/jobs/{job_id}/retry")

        assert refused.status_code == 409
        assert refused.headers["content-type"] == "application/problem+json"
        problem = refused.json()
        assert problem["code"] == "state_conflict"
        assert problem["current_state"] in {"queued", "starting"}
        assert problem["allowed"] == ["cancel", "fork", "pause"]
        assert problem["allowed"] == (await served.api.get(f"/v1/jobs/{job_id}")).json()["allowed"]


async def test_an_archived_job_is_shown_only_among_the_archived(plane: Plane) -> None:
    job_id = await ended(plane)
    usual, archived = Filters(project="default"), Filters(project="default", archived=True)

    await plane.service.archive(job_id, origin=ORIGIN)
    assert await plane.jobs.page(usual, limit=10) == []
    assert [job.id for job in await plane.jobs.page(archived, limit=10)] == [job_id]

    await plane.service.restore(job_id, origin=ORIGIN)
    assert [job.id for job in await plane.jobs.page(usual, limit=10)] == [job_id]
    assert (await plane.events(job_id))[-2:] == ["archived", "restored"]


async def test_a_deleted_job_is_gone_and_what_was_to_be_purged_too(plane: Plane) -> None:
    job_id = await ended(plane)
    keys = JobKeys(job_id)
    plane.worker(job_id).checkpoint(160, at=plane.clock())
    plane.store.put(keys.sample(160), b"png")
    plane.store.put(keys.attempt(1).log_chunk("driver", 0), b"log")

    await plane.service.delete(job_id, origin=ORIGIN, purge=("checkpoints", "logs"))
    await plane.aftercare.tick()

    with pytest.raises(JobGone) as caught:
        await plane.job(job_id)
    assert caught.value.status == 410
    assert plane.store.list(keys.checkpoints) == []
    assert plane.store.list(keys.attempt(1).logs) == []
    assert plane.store.list(keys.samples) == [keys.sample(160)], "that was not asked for"
    assert plane.store.get(keys.spec)
    assert await plane.jobs.with_purge_due() == []


async def test_a_job_that_has_not_ended_is_not_deleted(plane: Plane) -> None:
    job_id = await plane.started()

    with pytest.raises(StateConflict) as caught:
        await plane.service.delete(job_id, origin=ORIGIN, purge=())

    assert caught.value.extra == {"current_state": "running", "allowed": ["cancel", "fork", "pause"]}


async def test_a_purge_that_was_cut_off_is_finished_later(plane: Plane) -> None:
    job_id = await ended(plane)
    plane.worker(job_id).checkpoint(160, at=plane.clock())
    await plane.service.delete(job_id, origin=ORIGIN, purge=("checkpoints",))
    keys = JobKeys(job_id)
    plane.store.delete(plane.store.list(keys.checkpoints)[0])

    await plane.aftercare.tick()
    await plane.aftercare.tick()

    assert await plane.jobs.with_purge_due() == []


async def test_fields_that_are_given_are_changed_and_no_others(plane: Plane) -> None:
    job_id = await plane.submit("old name", labels={"team": "vision"})
    before = await plane.job(job_id)

    changed = await plane.service.update(
        job_id, JobUpdate.model_validate({"name": "new name", "priority": "high"}), origin=ORIGIN, if_match=None
    )

    assert changed == replace(before, name="new name", priority=2, event_sequence=2, record_due=True)
    assert (await plane.events(job_id))[-1] == "updated"


async def test_of_two_who_change_what_they_read_the_second_is_told(plane: Plane) -> None:
    job_id = await plane.submit()
    tag = etag((await plane.job(job_id)).event_sequence)

    await plane.service.update(job_id, JobUpdate(name="first"), origin=ORIGIN, if_match=tag)
    with pytest.raises(PreconditionFailed):
        await plane.service.update(job_id, JobUpdate(name="second"), origin=ORIGIN, if_match=tag)

    assert (await plane.job(job_id)).name == "first"


async def test_a_change_that_changes_nothing_is_no_event(plane: Plane) -> None:
    job_id = await ended(plane)
    name = JobUpdate(name="name")
    await plane.service.archive(job_id, origin=ORIGIN)
    await plane.service.update(job_id, name, origin=ORIGIN, if_match=None)
    await plane.aftercare.tick()
    events = await plane.events(job_id)

    await plane.service.archive(job_id, origin=ORIGIN)
    await plane.service.update(job_id, name, origin=ORIGIN, if_match=None)

    assert await plane.events(job_id) == events
