"""What is stopped and forgotten on an engine that others use, too, and what is left alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.cluster import MemoryCluster
from service.cluster.base import ClusterUnreachable, RunStatus, Submission
from service.cluster.memory import Driver
from service.database.tables import attempts, events, job_labels, jobs
from tests.support.plane import Plane, Script, plane_in, until_run

OURS = "a job of ours"


class Witnessed(MemoryCluster):
    """Knows what it was asked to stop or to forget; either takes its time to show."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self.ended: list[str] = []

    async def stop(self, submission_id: str) -> None:
        self.ended.append(submission_id)
        await super().stop(submission_id)

    async def delete(self, submission_id: str) -> None:
        self.ended.append(submission_id)
        await super().delete(submission_id)


@pytest.fixture
def cluster(script: Script) -> Witnessed:
    return Witnessed(script)


@pytest.fixture
async def plane(tmp_path: Path, cluster: Witnessed) -> AsyncIterator[Plane]:
    async with plane_in(tmp_path, cluster=cluster) as plane:
        yield plane


async def known_ids(plane: Plane) -> list[str]:
    return sorted(run.submission_id for run in await plane.cluster.list())


async def status_of(plane: Plane, submission_id: str) -> RunStatus | None:
    run = await plane.cluster.find(submission_id)
    return run.status if run else None


async def submit_as(plane: Plane, submission_id: str, **metadata: str) -> None:
    await plane.cluster.submit(
        Submission(submission_id=submission_id, entrypoint="sleep 1", metadata=metadata, environment={})
    )
    await until_run(plane, submission_id, RunStatus.RUNNING)


async def test_what_still_runs_of_an_attempt_that_is_over_is_stopped_and_then_forgotten(plane: Plane) -> None:
    job_id = await plane.started()
    plane.cluster.reachable = False
    await plane.cancel(job_id, mode="now")
    plane.clock.advance(1)
    await plane.settle()
    assert (await plane.job(job_id)).state == "cancelled"
    plane.cluster.reachable = True
    assert await status_of(plane, f"{job_id}-a1") is RunStatus.RUNNING, "nobody could tell it to stop"

    await plane.parts.sweep.tick()
    await until_run(plane, f"{job_id}-a1", RunStatus.STOPPED)
    await plane.parts.sweep.tick()
    assert await known_ids(plane) == [f"{job_id}-a1"], "its log is still to be copied"

    await plane.aftercare.tick()
    await plane.parts.sweep.tick()
    assert await known_ids(plane) == []
    assert sorted(await plane.objects.log_sources(job_id, 1)) == ["driver", "engine"]


async def test_an_attempt_that_was_never_written_down_is_stopped_if_its_job_is_ours(plane: Plane) -> None:
    job_id = await plane.started()
    us = await plane.parts.sweep.installation.id()
    await submit_as(plane, f"{job_id}-a7", cdm_job=job_id, cdm_service=us)

    await plane.parts.sweep.tick()
    await until_run(plane, f"{job_id}-a7", RunStatus.STOPPED)
    await plane.parts.sweep.tick()

    assert await known_ids(plane) == [f"{job_id}-a1"]


async def test_what_runs_as_it_should_is_left_alone(plane: Plane, cluster: Witnessed) -> None:
    job_id = await plane.started()

    await plane.parts.sweep.tick()

    assert cluster.ended == []
    assert await status_of(plane, f"{job_id}-a1") is RunStatus.RUNNING
    assert (await plane.job(job_id)).state == "running"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"owner": "somebody"},
        {"cdm_service": "another installation"},
        {"cdm_job": "job_1", "cdm_attempt": "1", "cdm_service": "another installation"},
        {"cdm_job": "job_1", "cdm_attempt": "1"},
        {"cdm_job": OURS, "cdm_service": "another installation"},  # which a copy of this database was put into
    ],
)
async def test_what_others_run_is_neither_stopped_nor_forgotten(
    plane: Plane, script: Script, cluster: Witnessed, metadata: dict[str, str]
) -> None:
    job_id = await plane.started()
    given = {name: value.replace(OURS, job_id) for name, value in metadata.items()}
    await submit_as(plane, "running", **given)
    await submit_as(plane, "over", **given)
    script.exit("over", 0)
    await until_run(plane, "over", RunStatus.SUCCEEDED)

    await plane.parts.sweep.tick()

    assert cluster.ended == []
    assert await known_ids(plane) == [f"{job_id}-a1", "over", "running"]
    assert await status_of(plane, "running") is RunStatus.RUNNING


async def test_a_job_that_a_lost_database_does_not_know_goes_on_until_that_is_rebuilt(
    plane: Plane, cluster: Witnessed
) -> None:
    job_id = await plane.started()
    async with plane.parts.database.writing() as connection:
        for table in (events, attempts, job_labels, jobs):
            await connection.execute(table.delete())

    with capture_logs() as logs:
        await plane.parts.sweep.tick()

    assert cluster.ended == []
    assert [entry["submission_id"] for entry in logs if entry["event"] == "run.unknown"] == [f"{job_id}-a1"]
    assert await status_of(plane, f"{job_id}-a1") is RunStatus.RUNNING


async def test_a_finished_attempt_is_forgotten_once_its_log_is_copied(plane: Plane, script: Script) -> None:
    job_id = await plane.started()
    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    script.exit(f"{job_id}-a1", 0)
    await until_run(plane, f"{job_id}-a1", RunStatus.SUCCEEDED)
    await plane.settle()
    await plane.parts.sweep.tick()
    assert await known_ids(plane) == [f"{job_id}-a1"]

    await plane.aftercare.tick()
    await plane.parts.sweep.tick()

    assert await known_ids(plane) == []
    assert (await plane.job(job_id)).state == "succeeded"


async def test_an_engine_that_does_not_answer_is_asked_again_next_time(plane: Plane) -> None:
    await plane.started()
    plane.cluster.reachable = False

    assert not await plane.parts.sweep.tick()


async def test_one_that_cannot_be_stopped_keeps_no_other_from_being_stopped(tmp_path: Path, script: Script) -> None:
    class HalfDeaf(MemoryCluster):
        async def stop(self, submission_id: str) -> None:
            if submission_id.endswith("-a7"):
                raise ClusterUnreachable("its node is gone")
            await super().stop(submission_id)

    async with plane_in(tmp_path, cluster=HalfDeaf(script)) as plane:
        job_id = await plane.started()
        us = await plane.parts.sweep.installation.id()
        for number in (7, 8):
            await submit_as(plane, f"{job_id}-a{number}", cdm_job=job_id, cdm_service=us)

        await plane.parts.sweep.tick()

        await until_run(plane, f"{job_id}-a8", RunStatus.STOPPED)
        assert await status_of(plane, f"{job_id}-a7") is RunStatus.RUNNING
