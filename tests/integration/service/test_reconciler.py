"""Jobs from submission to their end, step by step, on a real database; and what dies on the way (5.5 of the design)."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.cluster import MemoryCluster
from service.cluster.base import RunStatus, Submission, SubmissionRefused
from service.cluster.memory import DriverLost
from service.jobs.lifecycle import JobState
from service.jobs.records import JobRecord
from tests.support.plane import Plane, Script, plane_in, until_run
from workers.storage.memory import MemoryStore


async def test_a_job_is_queued_starts_runs_and_succeeds(plane: Plane) -> None:
    job_id = await plane.submit()
    assert (await plane.job(job_id)).state == "queued"

    await plane.settle()
    assert (await plane.job(job_id)).state == "starting"

    plane.worker(job_id).progress(at=plane.clock(), phase="preparing")
    await plane.settle()
    assert (await plane.job(job_id)).state == "starting"

    plane.worker(job_id).progress(at=plane.clock())
    await plane.settle()
    assert (await plane.job(job_id)).state == "running"

    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    await plane.settle()
    job = await plane.job(job_id)
    assert (job.state, job.attempt, job.mlflow_run_id) == ("succeeded", 1, "run1")
    assert job.started_at
    assert job.ended_at
    events = await plane.jobs.events(job_id, after=0, limit=100)
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert [event.state for event in events] == ["queued", "starting", "running", "succeeded"]
    assert [event.type for event in events] == ["created", "attempt_started", "state_changed", "state_changed"]
    assert [event.actor for event in events] == ["tester", None, None, None]


async def test_the_engine_is_told_how_to_run_the_attempt_and_no_secret(plane: Plane) -> None:
    job_id = await plane.started()

    submission = plane.cluster.submission(f"{job_id}-a1")

    assert submission.entrypoint == f"python -m workers memory://plane/jobs/{job_id}/spec.json --attempt 1"
    assert submission.environment == {"RAY_JOB_STOP_WAIT_TIME_S": "45"}
    assert set(submission.metadata) == {"cdm_job", "cdm_attempt", "cdm_nonce", "cdm_service"}


async def test_an_attempt_is_written_down_before_the_engine_hears_of_it(plane: Plane) -> None:
    job_id = await plane.submit()

    await plane.parts.scheduler.tick()

    attempt = await plane.jobs.attempt(job_id, 1)
    assert attempt
    assert attempt.submitted_at is None
    assert plane.cluster.submission_ids == []
    await plane.parts.reconciler.tick()
    assert plane.cluster.submission_ids == [f"{job_id}-a1"]


async def test_an_answer_that_got_lost_is_no_second_submission(tmp_path: Path, script: Script) -> None:
    cluster = DeafCluster(script)
    async with plane_in(tmp_path, cluster=cluster) as plane:
        job_id = await plane.submit()
        await plane.settle()
        assert (await plane.job(job_id)).conditions["BackendReachable"].status is False

        cluster.is_deaf = False
        await plane.settle()

        attempt = await plane.jobs.attempt(job_id, 1)
        assert attempt
        assert attempt.submitted_at
        assert cluster.submission_ids == [f"{job_id}-a1"]


class DeafCluster(MemoryCluster):
    """Takes a submission and then does not answer."""

    is_deaf = True

    async def submit(self, submission: Submission) -> None:
        await super().submit(submission)
        self.reachable = False

    async def probe(self) -> None:
        self.reachable = self.reachable or not self.is_deaf
        await super().probe()


async def test_a_submission_that_the_engine_refuses_fails_the_job(tmp_path: Path) -> None:
    async with plane_in(tmp_path, cluster=RefusingCluster()) as plane:
        job_id = await plane.submit()
        await plane.settle()

        job = await plane.job(job_id)
        assert (job.state, job.reason, job.message) == ("failed", "invalid_environment", "no such working_dir")


class RefusingCluster(MemoryCluster):
    async def submit(self, submission: Submission) -> None:
        raise SubmissionRefused("no such working_dir")


async def test_something_else_under_the_id_of_an_attempt_is_left_alone(plane: Plane) -> None:
    job_id = await plane.submit()
    await plane.parts.scheduler.tick()
    attempt = await plane.jobs.attempt(job_id, 1)
    assert attempt
    ours = await plane.parts.reconciler.actions._submission(attempt)
    await plane.cluster.submit(replace(ours, metadata={**ours.metadata, "cdm_nonce": "theirs"}))

    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.reason) == ("failed", "submission_conflict")
    run = await plane.cluster.find(f"{job_id}-a1")
    assert run
    assert run.status is RunStatus.RUNNING


# What dies, and what does not


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
    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    await plane.settle()

    assert (await plane.job(job_id)).state == "succeeded"


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

        plane.clock.advance(9)
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

    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    await plane.settle()

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

    plane.worker(job_id).outcome("failed", at=plane.clock(), reason=reason, message="3 images cannot be read")
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.reason, job.message, job.attempt) == ("failed", reason, "3 images cannot be read", 1)


async def test_an_attempt_stopped_by_something_else_is_followed_by_another(plane: Plane) -> None:
    job_id = await plane.started()

    plane.worker(job_id).outcome("stopped", at=plane.clock())
    await plane.settle()

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
            plane.worker(job_id, attempt).outcome("failed", at=plane.clock(), reason="internal", message="KeyError")
            await plane.settle()

        job = await plane.job(job_id)
        assert (job.state, job.reason, job.attempt) == ("failed", "poison", 2)


# What is watched


async def test_a_submission_that_never_starts_is_taken_back_and_tried_again(tmp_path: Path, script: Script) -> None:
    cluster = MemoryCluster(script, num_slots=0)
    async with plane_in(tmp_path, cluster=cluster) as plane:
        job_id = await plane.started(training=False)
        plane.clock.advance(901)
        await plane.settle()

        job = await plane.job(job_id)
        assert (job.state, job.reason, job.attempt) == ("starting", "start_timeout", 2)
        assert not plane.worker(job_id).claim(at=plane.clock()), "should it start after all, it finds that it may not"


async def test_a_driver_that_prepares_for_long_is_left_alone(plane: Plane) -> None:
    job_id = await plane.started(training=False)
    plane.worker(job_id).claim(at=plane.clock())
    plane.clock.advance(3600)
    await plane.settle()

    assert ((await plane.job(job_id)).state, (await plane.job(job_id)).attempt) == ("starting", 1)


async def test_a_job_that_no_longer_beats_or_gets_on_is_shown_as_such(plane: Plane) -> None:
    job_id = await plane.started()
    assert told(await plane.job(job_id)) == {"BackendReachable": True, "Heartbeating": True, "Progressing": True}

    plane.clock.advance(100)
    await plane.settle()
    assert told(await plane.job(job_id)) == {"BackendReachable": True, "Heartbeating": False, "Progressing": True}

    plane.clock.advance(300)
    plane.worker(job_id).progress(at=plane.clock())  # it beats, at the same image
    await plane.settle()
    assert told(await plane.job(job_id)) == {"BackendReachable": True, "Heartbeating": True, "Progressing": False}

    plane.worker(job_id).progress(at=plane.clock(), images_seen=132)
    await plane.settle()
    assert told(await plane.job(job_id)) == {"BackendReachable": True, "Heartbeating": True, "Progressing": True}
    events = await plane.events(job_id)
    assert events[3:] == ["heartbeat_lost", "heartbeat_back", "stalled", "progressing"]


def told(job: JobRecord) -> dict[str, bool]:
    return {kind: condition.status for kind, condition in sorted(job.conditions.items())}


async def test_a_job_that_does_not_get_on_is_restarted_if_the_operator_wants_that(
    tmp_path: Path, script: Script
) -> None:
    watch = {"stall_timeout_seconds": 60.0, "restart_stalled": True}
    async with plane_in(tmp_path, cluster=MemoryCluster(script), watch=watch) as plane:
        job_id = await plane.started()
        plane.clock.advance(61)
        plane.worker(job_id).progress(at=plane.clock())
        await plane.settle()
        await until_run(plane, f"{job_id}-a1", RunStatus.STOPPED)
        await plane.settle()

        job = await plane.job(job_id)
        assert (job.state, job.reason, job.attempt) == ("starting", "stalled", 2)
        assert (await plane.events(job_id))[-3:] == ["pausing", "recovering", "attempt_started"]


async def test_a_job_that_stalls_each_time_is_given_up(tmp_path: Path, script: Script) -> None:
    watch = {"stall_timeout_seconds": 60.0, "restart_stalled": True}
    async with plane_in(tmp_path, cluster=MemoryCluster(script), watch=watch) as plane:
        job_id = await plane.started()
        for attempt in (1, 2, 3):
            plane.worker(job_id, attempt).progress(at=plane.clock())
            await plane.settle()
            plane.clock.advance(61)
            await plane.settle()
            await until_run(plane, f"{job_id}-a{attempt}", RunStatus.STOPPED)
            await plane.settle()

        job = await plane.job(job_id)
        assert (job.state, job.reason, job.attempt) == ("failed", "retries_exhausted", 3)


async def test_a_job_that_has_had_its_time_leaves_with_a_checkpoint_and_fails(plane: Plane, script: Script) -> None:
    job_id = await plane.started(max_runtime_seconds=600)
    script.last_words = lambda: plane.worker(job_id).outcome("stopped", at=plane.clock(), message="left at 200 images")
    plane.clock.advance(600)
    await plane.settle()
    assert (await plane.job(job_id)).state == "running"

    plane.clock.advance(1)
    await plane.settle()
    await until_run(plane, f"{job_id}-a1", RunStatus.STOPPED)
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.reason, job.unclean) == ("failed", "max_runtime_exceeded", False)
    assert job.message == "left at 200 images"


# The store and the database


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


class FailingStore(MemoryStore):
    """Fails to read below one prefix."""

    broken: str | None = None

    def get(self, key: str) -> bytes:
        if self.broken and key.startswith(self.broken):
            raise ConnectionError("the store is on fire")
        return super().get(key)


async def test_a_record_that_cannot_be_read_says_nothing(plane: Plane) -> None:
    job_id = await plane.started()
    plane.store.put(plane.worker(job_id).keys.outcome, b'{"status": "succ')
    await plane.settle()
    assert (await plane.job(job_id)).state == "running"

    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    await plane.settle()

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
    (taken,) = await plane.jobs.claim("slow", now=plane.clock(), seconds=60)
    plane.clock.advance(61)
    assert await plane.jobs.claim("quick", now=plane.clock(), seconds=60)

    written = await plane.jobs.apply(taken, replace(taken, message="late"), at=plane.clock(), lease="slow")

    assert written is None
    assert (await plane.job(job_id)).message is None
