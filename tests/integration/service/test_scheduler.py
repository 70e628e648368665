"""The queue on a cluster of so many CPUs: who starts, who waits and why, and who makes room."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from service.cluster import MemoryCluster
from service.cluster.base import Resources, RunStatus, Submission
from service.cluster.memory import Process
from service.database.tables import projects
from service.jobs.loop import Loop
from service.jobs.reasons import CIRCUMSTANCES
from service.jobs.views import JobCreate
from tests.support.jobs import SPEC
from tests.support.plane import REQUESTER, Plane, Script, eventually, plane_in, served_in, until_run
from workers.contract.keys import JobKeys
from workers.contract.merging import merged
from workers.contract.spec import TrainSpec, parse_spec

MINUTE = 60.0


def of(workers: int) -> TrainSpec:
    return parse_spec(merged(SPEC.model_dump(mode="json"), {"compute": {"workers": workers}}))


def with_cpus(plane: Plane, script: Script, cpus: float) -> None:
    """A cluster of that size, where each driver takes what its document asks for."""

    def holds(process: Process) -> Resources:
        job_id = process.submission.metadata.get("cdm_job")
        if job_id is None:
            return Resources(cpus=float(process.submission.entrypoint), gpus=0.0)
        spec = TrainSpec.model_validate_json(plane.store.get(JobKeys(job_id).spec))
        return Resources(cpus=spec.compute.workers, gpus=0.0)

    script.holds = holds
    plane.cluster.total = Resources(cpus=cpus, gpus=0.0)


@pytest.fixture
def sized(plane: Plane, script: Script) -> Callable[[float], None]:
    return lambda cpus: with_cpus(plane, script, cpus)


async def submitted(plane: Plane, workers: int = 2, **fields: Any) -> str:
    return await plane.submit(spec=of(workers), **fields)


async def at_work(plane: Plane, workers: int = 2, **fields: Any) -> str:
    return await plane.started(spec=of(workers), **fields)


async def state_and_reason(plane: Plane, *job_ids: str) -> list[tuple[str, str | None]]:
    jobs = [await plane.job(job_id) for job_id in job_ids]
    return [(job.state.value, job.reason) for job in jobs]


async def finish(plane: Plane, script: Script, job_id: str, attempt: int = 1) -> None:
    plane.worker(job_id, attempt).outcome("succeeded", at=plane.clock())
    script.exit(f"{job_id}-a{attempt}", 0)
    await until_run(plane, f"{job_id}-a{attempt}", RunStatus.SUCCEEDED)
    await plane.settle()


async def test_jobs_take_turns_first_come_first_served(
    plane: Plane, script: Script, sized: Callable[[float], None]
) -> None:
    sized(2)
    first, second, third = [await submitted(plane) for _ in range(3)]
    await plane.settle()
    assert await state_and_reason(plane, first, second, third) == [
        ("starting", None),
        ("queued", "waiting_capacity"),
        ("queued", "waiting_turn"),
    ]

    await finish(plane, script, first)

    assert await state_and_reason(plane, first, second, third) == [
        ("succeeded", None),
        ("starting", None),
        ("queued", "waiting_capacity"),
    ]


async def test_a_higher_class_goes_first(plane: Plane, script: Script, sized: Callable[[float], None]) -> None:
    sized(2)
    low, normal, high = [await submitted(plane, priority=each) for each in ("low", "normal", "high")]
    order = []
    for _ in range(3):
        await plane.settle()
        (active,) = await plane.jobs.active()
        order.append(active.id)
        await finish(plane, script, active.id)

    assert order == [high, normal, low]


async def test_a_gang_starts_whole_or_not_at_all(plane: Plane, script: Script, sized: Callable[[float], None]) -> None:
    sized(3)
    first, second = await at_work(plane, 2), await submitted(plane, 2)
    await plane.settle()
    waiting = await plane.job(second)
    assert (waiting.state, waiting.reason) == ("queued", "waiting_capacity")
    assert waiting.message

    await finish(plane, script, first)

    assert (await plane.job(second)).state == "starting"


async def test_a_gang_that_was_just_started_is_not_promised_its_room_twice(
    plane: Plane, sized: Callable[[float], None]
) -> None:
    """The engine's account lags behind: what was only submitted holds nothing yet."""
    sized(4)
    plane.cluster.num_slots = 0
    jobs = [await submitted(plane, 2) for _ in range(3)]
    await plane.settle()

    assert [(await plane.job(one)).state for one in jobs] == ["starting", "starting", "queued"]


async def test_what_others_run_on_the_cluster_is_not_ours_to_give(
    plane: Plane, script: Script, sized: Callable[[float], None]
) -> None:
    sized(4)
    await plane.cluster.submit(Submission(submission_id="theirs", entrypoint="3", metadata={}, environment={}))
    await until_run(plane, "theirs", RunStatus.RUNNING)
    ours = await submitted(plane, 2)
    await plane.settle()
    assert await state_and_reason(plane, ours) == [("queued", "waiting_capacity")]

    script.exit("theirs", 0)
    await until_run(plane, "theirs", RunStatus.SUCCEEDED)
    await plane.settle()

    assert (await plane.job(ours)).state == "starting"


async def test_a_job_that_can_never_fit_says_so_and_lets_the_others_by(
    plane: Plane, sized: Callable[[float], None]
) -> None:
    sized(2)
    huge, small = await submitted(plane, 4), await submitted(plane, 2)
    await plane.settle()
    assert await state_and_reason(plane, huge, small) == [("queued", "exceeds_cluster"), ("starting", None)]

    sized(8)
    await plane.settle()

    assert (await plane.job(huge)).state == "starting"


async def test_a_short_job_fills_a_gap_if_the_head_does_not_start_later_for_it(
    plane: Plane, script: Script, sized: Callable[[float], None]
) -> None:
    sized(4)
    running = await at_work(plane, 2, max_runtime_seconds=10 * MINUTE)
    head = await submitted(plane, 4)
    endless = await submitted(plane, 2)
    too_long = await submitted(plane, 2, max_runtime_seconds=20 * MINUTE)
    short = await submitted(plane, 2, max_runtime_seconds=5 * MINUTE)
    await plane.settle()

    assert [(await plane.job(one)).state for one in (head, endless, too_long, short)] == [
        "queued",
        "queued",
        "queued",
        "starting",
    ]
    await finish(plane, script, short)
    await finish(plane, script, running)
    assert (await plane.job(head)).state == "starting"


async def limit(plane: Plane, project: str, **quota: int) -> None:
    database = plane.parts.database
    row = {"name": project, "created_at": plane.clock(), **quota}
    async with database.writing() as connection:
        await connection.execute(database.insert(projects).values(row).on_conflict_do_update(["name"], set_=quota))


@pytest.mark.parametrize("quota", [{"max_workers": 2}, {"max_workers": 3}, {"max_jobs": 1}])
async def test_a_project_waits_for_its_own_quota_and_for_nobody_elses(
    plane: Plane, script: Script, sized: Callable[[float], None], quota: dict[str, int]
) -> None:
    sized(100)
    await limit(plane, "default", **quota)
    first, second = await submitted(plane, 2), await submitted(plane, 2)
    request = JobCreate(spec=of(2))
    other = (await plane.submissions.submit(request, requester=replace(REQUESTER, project="other"))).id
    await plane.settle()
    assert await state_and_reason(plane, first, second) == [("starting", None), ("queued", "waiting_quota")]
    neighbour = await plane.jobs.find(other)
    assert neighbour
    assert neighbour.state == "starting"

    await finish(plane, script, first)

    assert (await plane.job(second)).state == "starting"


async def test_the_engine_runs_no_more_jobs_than_it_is_allowed(tmp_path: Path, script: Script) -> None:
    async with plane_in(tmp_path, cluster=MemoryCluster(script), max_active_jobs=1) as plane:
        first, second = await plane.submit(), await plane.submit()
        await plane.settle()
        assert await state_and_reason(plane, first, second) == [("starting", None), ("queued", "engine_full")]

        await finish(plane, script, first)

        assert (await plane.job(second)).state == "starting"


async def test_a_lower_class_makes_room_with_a_checkpoint_and_goes_on_from_it_later(
    plane: Plane, script: Script, sized: Callable[[float], None]
) -> None:
    sized(2)
    low = await at_work(plane, 2, priority="low")

    def last_words() -> None:
        plane.worker(low).progress(at=plane.clock(), images_seen=200, checkpoint=200)
        plane.worker(low).outcome("stopped", at=plane.clock(), message="left at 200 images")

    script.last_words = last_words
    high = await submitted(plane, 2, priority="high")
    while await plane.parts.scheduler.tick():
        pass
    assert await state_and_reason(plane, low, high) == [("pausing", "preempted"), ("queued", "waiting_preemption")]

    await plane.settle()
    await until_run(plane, f"{low}-a1", RunStatus.STOPPED)
    await plane.settle()
    assert [(await plane.job(one)).state for one in (low, high)] == ["queued", "starting"]
    assert not (await plane.job(low)).unclean

    script.last_words = None
    await finish(plane, script, high)
    again = await plane.jobs.attempt(low, 2)
    assert again
    assert ((await plane.job(low)).state, again.from_images) == ("starting", 200)
    assert (await plane.events(low))[-3:] == ["pausing", "queued", "attempt_started"]


async def test_equals_do_not_push_each_other_out(plane: Plane, sized: Callable[[float], None]) -> None:
    sized(2)
    running, waiting = await at_work(plane, 2), await submitted(plane, 2)
    await plane.settle()

    assert [(await plane.job(one)).state for one in (running, waiting)] == ["running", "queued"]


async def test_an_engine_that_is_down_is_why_all_wait(plane: Plane) -> None:
    plane.cluster.reachable = False
    jobs = [await plane.submit() for _ in range(2)]
    await plane.settle()
    assert await state_and_reason(plane, *jobs) == [("queued", "backend_down")] * 2
    assert "backend_down" in CIRCUMSTANCES
    assert (await plane.events(jobs[0])) == ["created"], "why it waits is no event"

    plane.cluster.reachable = True
    await plane.settle()

    assert await state_and_reason(plane, *jobs) == [("starting", None)] * 2


async def test_of_two_replicas_one_schedules_and_the_other_takes_over_when_it_falls_silent(plane: Plane) -> None:
    other = replace(plane.parts.scheduler, replica=replace(plane.parts.replica, token="other"))
    first = await plane.submit()
    assert await plane.parts.scheduler.tick()
    second = await plane.submit()
    assert await other.tick() is None
    assert [(await plane.job(one)).state for one in (first, second)] == ["starting", "queued"]

    plane.clock.advance(31)

    assert await other.tick()
    assert (await plane.job(second)).state == "starting"


async def test_a_scheduler_that_fails_is_not_hidden_by_the_replica_that_leaves_the_work_to_it(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plane.submit()
    monkeypatch.setattr(plane.cluster, "capacity", AsyncMock(side_effect=RuntimeError("a mistake of ours")))
    other = replace(plane.parts.scheduler, replica=replace(plane.parts.replica, token="other"))
    ticks = [AsyncMock(side_effect=one.tick) for one in (plane.parts.scheduler, other)]
    loops = [Loop("scheduler", tick, interval_seconds=0.01) for tick in ticks]
    made_at = time.monotonic()

    async def both_look() -> bool:
        return all(tick.await_count >= 3 for tick in ticks)

    async with loops[0].running(), loops[1].running():
        await eventually(both_look, what="each looks three times")
        looked_at = time.monotonic()

    assert min(loop.seconds_since_tick() for loop in loops) >= looked_at - made_at


async def test_why_and_where_a_job_waits_is_shown_in_the_job_and_in_the_queue(tmp_path: Path) -> None:
    async with served_in(tmp_path, max_active_jobs=1) as served:
        body = {"spec": SPEC.model_dump(mode="json")}
        jobs = [(await served.api.post("/v1/jobs", json=body)).json()["id"] for _ in range(3)]

        async def all_wait() -> bool:
            shown = [(await served.api.get(f"/v1/jobs/{job}")).json() for job in jobs]
            return [job["reason"] for job in shown] == [None, "engine_full", "waiting_turn"]

        await eventually(all_wait, what="the second and the third wait")
        shown = [(await served.api.get(f"/v1/jobs/{job}")).json() for job in jobs]
        queue = (await served.api.get("/v1/queue")).json()["data"]

    assert [job["queue_position"] for job in shown] == [None, 1, 2]
    assert [(entry["id"], entry["queue_position"], entry["reason"]) for entry in queue] == [
        (jobs[1], 1, "engine_full"),
        (jobs[2], 2, "waiting_turn"),
    ]
    assert all(entry["message"] for entry in queue)


async def crowd_with_impossible_jobs(plane: Plane) -> str:
    """Hundreds of one project, each larger than the cluster, all but the one that is returned of a high priority."""
    too_large = await plane.job(await submitted(plane, workers=4))
    for number in range(500):
        await plane.jobs.create(replace(too_large, id=f"{too_large.id}{number:03}", priority=2))
    return too_large.id


async def test_a_project_with_hundreds_of_jobs_that_cannot_start_holds_up_no_other(
    plane: Plane, sized: Callable[[float], None]
) -> None:
    sized(2)
    await crowd_with_impossible_jobs(plane)
    small = await plane.submissions.submit(JobCreate(spec=of(2)), requester=replace(REQUESTER, project="other"))

    await plane.settle()

    job = await plane.jobs.find(small.id)
    assert job
    assert job.state == "starting"


async def test_hundreds_of_jobs_that_can_never_start_hold_up_none_behind_them(
    plane: Plane, sized: Callable[[float], None]
) -> None:
    sized(2)
    too_large = await crowd_with_impossible_jobs(plane)
    small = await submitted(plane, workers=2)

    await plane.settle()

    assert await state_and_reason(plane, too_large, small) == [("queued", None), ("starting", None)]
    (first,) = await plane.jobs.queue(limit=1)
    assert first.reason == "exceeds_cluster"
