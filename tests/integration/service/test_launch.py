"""Jobs from submission to their end, step by step, on a real database."""

from dataclasses import replace
from pathlib import Path

from service.cluster import MemoryCluster
from service.cluster.base import RunStatus, Submission, SubmissionRefused
from tests.support.plane import Plane, Script, plane_in


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

    await plane.end(job_id)
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
    ours = await plane.parts.actions._submission(attempt)
    await plane.cluster.submit(replace(ours, metadata={**ours.metadata, "cdm_nonce": "theirs"}))

    await plane.settle()

    job = await plane.job(job_id)
    assert (job.state, job.reason) == ("failed", "submission_conflict")
    run = await plane.cluster.find(f"{job_id}-a1")
    assert run
    assert run.status is RunStatus.RUNNING
