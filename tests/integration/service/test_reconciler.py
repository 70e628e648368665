"""Jobs from submission to their end, step by step, on a real database; and what outages do to them."""

from pathlib import Path

import pytest

from service.cluster import MemoryCluster
from service.cluster.base import RunStatus
from service.cluster.memory import DriverLost
from service.errors import StateConflict
from service.jobs.store import JobStore
from tests.support.plane import Plane, Script, plane_in, until_run
from workers.storage.memory import MemoryStore


async def started(plane: Plane, *, training: bool = True) -> str:
    job_id = await plane.submit()
    await plane.settle()
    if training:
        plane.worker(job_id).progress(at=plane.clock())
        await plane.settle()
    return job_id


async def test_a_job_is_queued_starts_runs_and_succeeds(plane: Plane, script: Script) -> None:
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


async def test_the_engine_is_told_how_to_run_the_attempt_and_no_secret(plane: Plane) -> None:
    job_id = await started(plane)

    submission = plane.cluster.submission(f"{job_id}-a1")

    assert submission.entrypoint == f"python -m workers memory://plane/jobs/{job_id}/spec.json --attempt 1"
    assert submission.environment == {"RAY_JOB_STOP_WAIT_TIME_S": "45"}
    assert set(submission.metadata) == {"cdm_job", "cdm_attempt", "cdm_nonce"}


async def test_jobs_take_turns_first_come_first_served(plane: Plane, script: Script) -> None:
    first, second, third = [await plane.submit() for _ in range(3)]
    await plane.settle()
    assert [(await plane.job(one)).state for one in (first, second, third)] == ["starting", "queued", "queued"]
    assert (await plane.job(second)).reason == "waiting_capacity"

    plane.worker(first).outcome("succeeded", at=plane.clock())
    await plane.settle()

    assert [(await plane.job(one)).state for one in (first, second, third)] == ["succeeded", "starting", "queued"]
    assert (await plane.job(second)).reason is None


async def test_a_queued_job_waits_for_an_engine_that_is_down(plane: Plane) -> None:
    plane.cluster.reachable = False
    job_id = await plane.submit()
    await plane.settle()
    assert ((await plane.job(job_id)).state, (await plane.job(job_id)).reason) == ("queued", "backend_down")

    plane.cluster.reachable = True
    await plane.settle()

    assert (await plane.job(job_id)).state == "starting"


async def test_an_outage_ends_nothing_and_is_shown(plane: Plane, script: Script) -> None:
    job_id = await started(plane)
    plane.cluster.reachable = False
    plane.clock.advance(86_400)
    await plane.settle()
    job = await plane.job(job_id)
    assert (job.state, job.backend_reachable) == ("running", False)

    plane.cluster.reachable = True
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.backend_reachable, job.attempt) == ("running", True, 1)
    events = [event.type for event in await plane.jobs.events(job_id, after=3, limit=10)]
    assert events == ["backend_unreachable", "backend_reachable"]


async def test_a_lost_driver_is_followed_by_another_attempt_until_there_were_enough(
    plane: Plane, script: Script
) -> None:
    job_id = await started(plane)
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


async def test_a_lost_supervisor_is_believed_only_when_the_heartbeat_stops(plane: Plane, script: Script) -> None:
    job_id = await started(plane)
    script.crash(f"{job_id}-a1", DriverLost("JOB_SUPERVISOR_ACTOR_DIED"))
    await until_run(plane, f"{job_id}-a1", RunStatus.FAILED)
    plane.clock.advance(60)
    plane.worker(job_id).progress(at=plane.clock(), images_seen=200)
    plane.clock.advance(60)
    await plane.settle()
    assert (await plane.job(job_id)).attempt == 1

    plane.clock.advance(60)
    await plane.settle()

    assert (await plane.job(job_id)).attempt == 2


async def test_a_head_that_lost_its_memory_means_another_attempt(plane: Plane) -> None:
    job_id = await started(plane)
    await plane.cluster.forget()
    await plane.settle()
    assert (await plane.job(job_id)).attempt == 1, "just after a submission, not knowing it proves nothing"

    plane.clock.advance(60)
    await plane.settle()

    assert (await plane.job(job_id)).attempt == 2


@pytest.mark.parametrize("reason", ["data_error", "non_finite_loss"])
async def test_a_failed_outcome_fails_the_job_with_its_reason(plane: Plane, reason: str) -> None:
    job_id = await started(plane)

    plane.worker(job_id).outcome("failed", at=plane.clock(), reason=reason, message="3 images cannot be read")
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.reason, job.message, job.attempt) == ("failed", reason, "3 images cannot be read", 1)


async def test_an_attempt_stopped_by_something_else_is_followed_by_another(plane: Plane) -> None:
    job_id = await started(plane)

    plane.worker(job_id).outcome("stopped", at=plane.clock())
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.reason, job.attempt) == ("starting", "stopped", 2)


async def test_a_queued_job_is_cancelled_at_once_and_never_runs(plane: Plane) -> None:
    job_id = await plane.submit()

    cancelled = await plane.service.cancel(job_id)
    await plane.settle()

    assert cancelled.state == "cancelled"
    assert plane.cluster.submission_ids == []
    with pytest.raises(StateConflict) as caught:
        await plane.service.cancel(job_id)
    assert caught.value.extra == {"current_state": "cancelled"}


async def test_a_running_job_is_stopped_and_cancelled_when_it_has_left(plane: Plane, script: Script) -> None:
    job_id = await started(plane)
    script.last_words = lambda: plane.worker(job_id).outcome("stopped", at=plane.clock(), message="left at 200 images")

    assert (await plane.service.cancel(job_id)).state == "cancelling"
    assert (await plane.service.cancel(job_id)).state == "cancelling", "asking again is harmless"
    await plane.settle()
    await until_run(plane, f"{job_id}-a1", RunStatus.STOPPED)
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.message) == ("cancelled", "left at 200 images")


async def test_a_driver_that_leaves_without_a_word_when_cancelled_is_unclean(plane: Plane) -> None:
    job_id = await started(plane)

    await plane.service.cancel(job_id)
    await plane.settle()
    await until_run(plane, f"{job_id}-a1", RunStatus.STOPPED)
    await plane.settle()

    job = await plane.job(job_id)
    assert job.state == "cancelled"
    assert "unclean" in (job.message or "")


async def test_a_job_that_is_done_before_it_can_be_cancelled_succeeds(plane: Plane) -> None:
    job_id = await started(plane)

    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    await plane.service.cancel(job_id)
    await plane.settle()

    assert (await plane.job(job_id)).state == "succeeded"


async def test_cancelling_between_writing_down_and_submitting_keeps_the_driver_out(plane: Plane) -> None:
    job_id = await plane.submit()
    await plane.reconciler.tick()
    assert plane.cluster.submission_ids == []

    await plane.service.cancel(job_id)
    await plane.settle()

    assert (await plane.job(job_id)).state == "cancelled"
    assert plane.cluster.submission_ids == []
    assert plane.store.list(plane.worker(job_id).keys.claim), "a submission that was on its way finds a claim"


async def test_stopping_a_pending_submission_is_repeated_until_it_works(tmp_path: Path, script: Script) -> None:
    cluster = MemoryCluster(script, num_slots=0)
    async with plane_in(tmp_path, cluster=cluster) as plane:
        job_id = await started(plane, training=False)
        await plane.service.cancel(job_id)
        await plane.settle()
        assert (await plane.job(job_id)).state == "cancelling"

        cluster.num_slots = 1
        await plane.settle()
        await until_run(plane, f"{job_id}-a1", RunStatus.STOPPED)
        await plane.settle()

        assert (await plane.job(job_id)).state == "cancelled"


async def test_the_log_is_copied_and_the_mlflow_run_closed_when_a_job_ends(plane: Plane, script: Script) -> None:
    job_id = await started(plane)
    plane.mlflow.runs["run1"] = "RUNNING"
    plane.worker(job_id).outcome("failed", at=plane.clock(), reason="data_error")
    await plane.settle()
    await plane.aftercare.tick()
    assert await plane.objects.log(job_id, 1) is None, "the driver may still print"

    script.exit(f"{job_id}-a1", 1)
    await until_run(plane, f"{job_id}-a1", RunStatus.FAILED)
    await plane.aftercare.tick()

    assert await plane.objects.log(job_id, 1) == f"running {job_id}-a1\n".encode()
    assert plane.mlflow.runs == {"run1": "FAILED"}
    assert (await plane.job(job_id)).mlflow_experiment_id == "7"


async def test_mlflow_being_down_delays_only_what_mlflow_is_told(plane: Plane) -> None:
    job_id = await started(plane)
    plane.mlflow.runs["run1"] = "RUNNING"
    plane.mlflow.down = True
    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    await plane.settle()
    await plane.aftercare.tick()
    assert (await plane.job(job_id)).state == "succeeded"

    plane.mlflow.down = False
    await plane.aftercare.tick()

    assert plane.mlflow.runs == {"run1": "FINISHED"}


async def test_a_store_that_fails_for_one_job_does_not_hold_up_another(tmp_path: Path, script: Script) -> None:
    store = FailingStore()
    async with plane_in(tmp_path, cluster=MemoryCluster(script), store=store, max_active_jobs=2) as plane:
        broken, sound = await started(plane, training=False), await started(plane, training=False)
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


async def test_the_database_keeps_a_job_where_another_hand_moved_it(plane: Plane) -> None:
    """The reconciler decides on what it read; a cancellation meanwhile must win."""
    job_id = await plane.submit()
    seen = await plane.job(job_id)
    await plane.service.cancel(job_id)

    store: JobStore = plane.jobs
    changed = type(seen)(**{**{name: getattr(seen, name) for name in seen.__slots__}, "state": "starting"})

    assert not await store.apply(seen, changed, event="state_changed", at=plane.clock())
    assert (await plane.job(job_id)).state == "cancelled"
