"""What takes too long: to start, to get on, in all."""

from datetime import timedelta
from pathlib import Path

from service.cluster import MemoryCluster
from service.cluster.base import RunStatus
from service.jobs.records import JobRecord
from tests.support.plane import Plane, Script, plane_in, until_run
from workers.contract.records import DeliveryDelay

WELL = {
    "BackendReachable": True,
    "Heartbeating": True,
    "Progressing": True,
    "ResourcesAvailable": True,
    "TrackingCurrent": True,
}


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
    assert told(await plane.job(job_id)) == WELL

    plane.clock.advance(100)
    await plane.settle()
    assert told(await plane.job(job_id)) == {**WELL, "Heartbeating": False}

    plane.clock.advance(300)
    plane.worker(job_id).progress(at=plane.clock())  # it beats, at the same image
    await plane.settle()
    assert told(await plane.job(job_id)) == {**WELL, "Progressing": False}

    plane.worker(job_id).progress(at=plane.clock(), images_seen=132)
    await plane.settle()
    assert told(await plane.job(job_id)) == WELL
    events = await plane.events(job_id)
    assert events[3:] == ["heartbeat_lost", "heartbeat_back", "stalled", "progressing"]


async def test_a_job_whose_workers_do_not_come_to_train_is_shown_as_such(plane: Plane) -> None:
    job_id = await plane.started(training=False)
    plane.worker(job_id).progress(at=plane.clock(), phase="preparing", images_seen=0)
    await plane.settle()
    assert told(await plane.job(job_id)) == WELL

    plane.clock.advance(1800 + 301)
    plane.worker(job_id).progress(at=plane.clock(), phase="preparing", images_seen=0)
    await plane.settle()
    job = await plane.job(job_id)
    assert (job.state, told(job)) == ("starting", {**WELL, "Progressing": False})

    plane.worker(job_id).progress(at=plane.clock(), phase="preparing", images_seen=0, restarts=1)
    await plane.settle()
    assert told(await plane.job(job_id)) == WELL, "they are begun again"
    assert (await plane.events(job_id))[-2:] == ["stalled", "progressing"]


async def test_a_job_says_who_takes_nothing_of_what_it_measures_and_how_much_waits(plane: Plane) -> None:
    job_id = await plane.started()
    behind = DeliveryDelay(waiting=12_000, since=plane.clock() - timedelta(minutes=5))
    plane.worker(job_id).progress(at=plane.clock(), images_seen=132, behind={"mlflow": behind})
    await plane.settle()

    job = await plane.job(job_id)
    assert told(job) == {**WELL, "TrackingCurrent": False}
    assert job.conditions["TrackingCurrent"].message == (
        "MLflow has taken nothing for 5 min: 12,000 records wait in memory and are delivered when it is back"
    )

    plane.worker(job_id).progress(at=plane.clock(), images_seen=164)
    await plane.settle()

    job = await plane.job(job_id)
    assert (told(job), job.conditions["TrackingCurrent"].message) == (WELL, None)
    assert (await plane.events(job_id))[-2:] == ["tracking_delayed", "tracking_current"]


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


async def test_a_job_whose_workers_find_no_room_says_what_is_missing_until_they_train_again(plane: Plane) -> None:
    job_id = await plane.started()
    lack = "room for 2 gpu workers: all nodes together have 1 GPUs, 1 free"
    plane.worker(job_id).progress(at=plane.clock(), phase="waiting", waiting_for=lack)
    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.reason, job.message) == ("recovering", "waiting_for_resources", f"it waits for {lack}")
    assert (told(job)["ResourcesAvailable"], job.conditions["ResourcesAvailable"].message) == (False, lack)
    assert (await plane.events(job_id))[-2:] == ["resources_missing", "recovering"]

    plane.worker(job_id).progress(at=plane.clock(), phase="preparing")
    await plane.settle()
    assert (await plane.job(job_id)).state == "recovering"

    plane.worker(job_id).progress(at=plane.clock())
    await plane.settle()
    job = await plane.job(job_id)
    assert (job.state, job.reason, told(job)["ResourcesAvailable"]) == ("running", None, True)
