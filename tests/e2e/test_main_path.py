"""The main path and the verbs on it: request, Ray Train workers, checkpoints, curves, pictures."""

import pytest

from service.jobs.views import Job, JobState
from tests.support.specs import smoke_spec
from tests.support.stack_jobs import (
    END_SECONDS,
    LONG,
    finished,
    log_of,
    mlflow,
    starts_in,
    valid_checkpoints,
    with_a_checkpoint,
)
from tests.support.waiting import wait_until
from tests.support.whole_stack import Stack
from workers.contract.keys import JobKeys
from workers.contract.records import Outcome

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def succeeded(stack: Stack) -> Job:
    labels = {"rate": "1e-3"}
    return finished(stack.client, stack.client.jobs.create(smoke_spec(), name="main path", labels=labels))


def test_a_job_goes_from_a_request_to_curves_checkpoints_and_pictures(stack: Stack, succeeded: Job) -> None:
    job = succeeded

    assert job.state is JobState.SUCCEEDED, job.message
    assert valid_checkpoints(stack, job) == [160, 320]
    assert stack.client.jobs.samples(job.id) == (160, 320)
    assert stack.client.jobs.sample(job.id).startswith(b"\x89PNG")
    states = [event.state for event in stack.client.jobs.events(job.id)]
    assert states == [JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.SUCCEEDED]
    log = log_of(stack.client, job)
    assert "of=2 rank=0" in log
    assert "of=2 rank=1" in log

    run = wait_until(
        lambda: (run := mlflow(job, "runs/get")["run"])["info"]["status"] == "FINISHED" and run, timeout_seconds=30
    )
    assert {metric["key"] for metric in run["data"]["metrics"]} >= {
        "loss/dsm",
        "loss/consistency",
        "throughput/images_per_second",
    }
    assert {"key": "network.channels", "value": "8"} in run["data"]["params"]
    assert run["info"]["run_name"] == "main path"
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert (tags["cdm.project"], tags["cdm.label.rate"]) == ("default", "1e-3")
    curve = mlflow(job, "metrics/get-history", metric_key="loss/dsm")["metrics"]
    assert [point["step"] for point in curve] == list(range(32, 321, 32))
    pictures = [file["path"] for file in mlflow(job, "artifacts/list", path="images")["files"]]
    assert all(any(f"step%{step}%" in path or f"+{step}+" in path for path in pictures) for step in (160, 320))


def test_a_paused_job_frees_its_workers_goes_on_from_its_checkpoint_and_leaves_another_when_cancelled(
    stack: Stack,
) -> None:
    job = stack.client.jobs.create(smoke_spec(**LONG))
    with_a_checkpoint(stack.client, job)

    stack.client.jobs.pause(job.id)
    paused = wait_until(
        lambda: (now := stack.client.jobs.retrieve(job.id)).state is JobState.PAUSED and now,
        timeout_seconds=END_SECONDS,
    )
    left_at = valid_checkpoints(stack, job)[-1]
    wait_until(lambda: not stack.processes("ray::RayTrainWorker"), timeout_seconds=60)
    stack.client.jobs.resume(job.id)
    wait_until(
        lambda: (now := stack.client.jobs.retrieve(job.id)).progress and now.progress.images_seen > left_at,
        timeout_seconds=END_SECONDS,
    )
    stack.client.jobs.cancel(job.id)
    job = finished(stack.client, job)

    assert (paused.attempt, paused.unclean) == (1, False)
    assert (job.state, job.attempt, job.unclean) == (JobState.CANCELLED, 2, False)
    assert starts_in(log_of(stack.client, job, attempt=2)) == [left_at, left_at]
    outcome = Outcome.model_validate_json(stack.store.get(JobKeys(job.id).attempt(2).outcome))
    assert outcome.status == "stopped"
    assert left_at < outcome.images_seen < 4800
    assert valid_checkpoints(stack, job)[-1] == outcome.images_seen
    wait_until(lambda: mlflow(job, "runs/get")["run"]["info"]["status"] == "KILLED", timeout_seconds=30)


def test_a_fork_goes_on_from_another_jobs_checkpoint_with_its_changes(stack: Stack, succeeded: Job) -> None:
    fork = stack.client.jobs.fork(succeeded.id, images_seen=200, overrides={"duration_images": 480, "seed": 7})
    job = finished(stack.client, fork.job)

    assert [(change.pointer, change.before, change.after) for change in fork.changes] == [
        ("/duration_images", 320, 480),
        ("/seed", 0, 7),
    ]
    assert job.state is JobState.SUCCEEDED, job.message
    assert job.parent
    assert (job.parent.job_id, job.parent.images_seen) == (succeeded.id, 160)
    assert starts_in(log_of(stack.client, job)) == [160, 160]
    assert valid_checkpoints(stack, job) == [320, 480]


def test_a_waiting_job_is_cancelled_at_once_and_never_reaches_ray(stack: Stack) -> None:
    first = stack.client.jobs.create(smoke_spec())
    second = stack.client.jobs.create(smoke_spec(seed=1))

    cancelled = stack.client.jobs.cancel(second.id)
    stack.client.jobs.cancel(first.id, mode="now")
    finished(stack.client, first)

    assert cancelled.state is JobState.CANCELLED
    assert stack.store.list(JobKeys(second.id).attempts) == []


def test_bad_input_is_refused_in_one_line_before_anything_is_spent(stack: Stack) -> None:
    before = [job.id for job in stack.client.jobs.list()]

    refused = {
        "two wrong fields": stack.cdm("submit", "smoke", "--set", "seed=-1", "--set", "network.depth=3"),
        "no such folder": stack.cdm("submit", "smoke", "--set", "dataset={kind: folder, path: /nowhere}"),
        "no such preset": stack.cdm("submit", "smoek"),
    }

    for result in refused.values():
        assert result.returncode in {1, 2}
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 1
    assert "seed" in refused["two wrong fields"].stderr
    assert "network.depth" in refused["two wrong fields"].stderr
    assert "/nowhere" in refused["no such folder"].stderr
    assert [job.id for job in stack.client.jobs.list()] == before


def test_images_that_cannot_be_used_are_named_in_the_jobs_message(stack: Stack) -> None:
    folder = stack.home.parent / "images"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"\x89PNG but no more")
    spec = smoke_spec(
        dataset={"kind": "folder", "path": str(folder), "resolution": 16},
        network={"kind": "ddpmpp", "channels": 8, "channel_multipliers": [1, 2]},
    )

    job = finished(stack.client, stack.client.jobs.create(spec))

    assert (job.state, job.reason) == (JobState.FAILED, "data_error")
    assert job.message
    assert "broken.png" in job.message


def test_a_job_that_the_cluster_can_never_hold_waits_and_is_told_why(stack: Stack) -> None:
    job = stack.client.jobs.create(smoke_spec(compute={"workers": 2, "accelerator": "gpu"}))

    def explained() -> Job | None:
        now = stack.client.jobs.retrieve(job.id)
        return now if now.reason == "exceeds_cluster" else None

    waiting = wait_until(explained, timeout_seconds=60)

    assert (waiting.state, waiting.queue_position) == (JobState.QUEUED, 1)
    assert waiting.message
    assert "2 GPUs" in waiting.message
    assert stack.client.jobs.cancel(job.id).state is JobState.CANCELLED
