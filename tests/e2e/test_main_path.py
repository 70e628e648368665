"""The main path and what may befall it: request, Ray Train workers, checkpoints, curves, pictures; then kill -9."""

import hashlib
from typing import Any

import httpx2
import pytest

from service.client import Client
from service.jobs.views import Job, JobState
from tests.e2e.conftest import Stack
from tests.support.specs import smoke_spec
from tests.support.waiting import wait_until
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.records import CheckpointManifest, Outcome

pytestmark = pytest.mark.timeout(400)

LONG = {"duration_images": 4800, "cadence": {"log_images": 80, "checkpoint_images": 800}}
_END_SECONDS = 240


def finished(client: Client, job: Job) -> Job:
    return client.jobs.wait(job.id, timeout=_END_SECONDS, poll_seconds=0.2)


def with_a_checkpoint(client: Client, job: Job) -> Job:
    """The job once it has committed a checkpoint, and is going on."""

    def checked() -> Job | None:
        now = client.jobs.retrieve(job.id)
        assert not now.state.is_terminal, now.message
        return now if now.progress and now.progress.last_checkpoint_images else None

    return wait_until(checked, timeout_seconds=_END_SECONDS)


def log_of(client: Client, job: Job, *, attempt: int = 1) -> str:
    """Everything that the driver printed, and with it the ranks."""
    text, offset = "", 0
    while piece := client.jobs.logs(job.id, attempt=attempt, offset=offset).text:
        text += piece
        offset += len(piece.encode())
    return text


def mlflow(job: Job, call: str, **parameters: Any) -> Any:
    """Ask the MLflow of this job's page."""
    assert job.mlflow_url
    base, _, path = job.mlflow_url.partition("/#/")
    asked = {**parameters, "run_id": path.split("/")[-1]}
    return httpx2.get(f"{base}/api/2.0/mlflow/{call}", params=asked, timeout=10).raise_for_status().json()


def valid_checkpoints(stack: Stack, job: Job) -> list[int]:
    """Images seen of each checkpoint that the API lists, every byte of it verified in the bucket."""
    listed = stack.client.jobs.checkpoints(job.id)
    for checkpoint in listed:
        folder = checkpoint.uri.removeprefix("s3://cdm/").rstrip("/")
        manifest = CheckpointManifest.model_validate_json(stack.store.get(f"{folder}/{MANIFEST}"))
        assert manifest.images_seen == checkpoint.images_seen
        for file in manifest.files:
            assert hashlib.sha256(stack.store.get(f"{folder}/{file.name}")).hexdigest() == file.sha256
    return [checkpoint.images_seen for checkpoint in listed]


def test_a_job_goes_from_a_request_to_curves_checkpoints_and_pictures(stack: Stack) -> None:
    job = stack.client.jobs.create(smoke_spec(), name="main path")

    job = finished(stack.client, job)

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
    curve = mlflow(job, "metrics/get-history", metric_key="loss/dsm")["metrics"]
    assert [point["step"] for point in curve] == list(range(32, 321, 32))
    pictures = [file["path"] for file in mlflow(job, "artifacts/list", path="images")["files"]]
    assert all(any(f"step%{step}%" in path or f"+{step}+" in path for path in pictures) for step in (160, 320))


def starts_in(log: str) -> list[int]:
    """How many images had been seen when each worker began, as the log tells it."""
    return [int(part.split()[0]) for part in log.split("device=cpu images_seen=")[1:]]


def test_a_killed_worker_costs_at_most_one_checkpoint_interval(stack: Stack) -> None:
    job = stack.client.jobs.create(smoke_spec(**LONG))
    kept = with_a_checkpoint(stack.client, job)
    assert kept.progress
    (worker, *_) = stack.processes("ray::RayTrainWorker")

    worker.kill()
    job = finished(stack.client, job)

    assert job.state is JobState.SUCCEEDED, job.message
    assert job.attempt == 1  # Ray Train restarted its workers; the driver lived on
    resumed_at = starts_in(log_of(stack.client, job))
    assert resumed_at[:2] == [0, 0]
    assert len(resumed_at) == 4
    assert all(images >= (kept.progress.last_checkpoint_images or 0) for images in resumed_at[2:])
    assert valid_checkpoints(stack, job) == list(range(800, 4801, 800))
    steps = [point["step"] for point in mlflow(job, "metrics/get-history", metric_key="loss/dsm")["metrics"]]
    assert steps == sorted(set(steps))


def test_a_killed_driver_is_followed_by_an_attempt_that_goes_on(stack: Stack) -> None:
    job = stack.client.jobs.create(smoke_spec(**LONG))
    kept = with_a_checkpoint(stack.client, job)
    assert kept.progress
    for driver in stack.processes("-m workers", job.id):
        driver.kill()

    job = finished(stack.client, job)

    assert job.state is JobState.SUCCEEDED, job.message
    assert job.attempt == 2
    # Another checkpoint may have been committed between the look and the kill.
    first, second = starts_in(log_of(stack.client, job, attempt=2))
    assert first == second
    assert (kept.progress.last_checkpoint_images or 0) <= first < 4800
    assert first in valid_checkpoints(stack, job)
    assert valid_checkpoints(stack, job)[-1] == 4800


def test_a_cancelled_job_leaves_a_last_checkpoint(stack: Stack) -> None:
    job = stack.client.jobs.create(smoke_spec(**LONG))
    with_a_checkpoint(stack.client, job)

    stack.client.jobs.cancel(job.id)
    job = finished(stack.client, job)

    outcome = Outcome.model_validate_json(stack.store.get(JobKeys(job.id).attempt(1).outcome))
    assert job.state is JobState.CANCELLED
    assert outcome.status == "stopped"
    assert 800 <= outcome.images_seen < 4800
    assert valid_checkpoints(stack, job)[-1] == outcome.images_seen
    wait_until(lambda: mlflow(job, "runs/get")["run"]["info"]["status"] == "KILLED", timeout_seconds=30)


def test_a_waiting_job_is_cancelled_at_once_and_never_reaches_ray(stack: Stack) -> None:
    first = stack.client.jobs.create(smoke_spec())
    second = stack.client.jobs.create(smoke_spec(seed=1))

    cancelled = stack.client.jobs.cancel(second.id)

    assert cancelled.state is JobState.CANCELLED
    assert finished(stack.client, first).state is JobState.SUCCEEDED
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


def test_a_paused_job_frees_its_workers_and_goes_on_from_its_checkpoint(stack: Stack) -> None:
    job = stack.client.jobs.create(smoke_spec(**LONG))
    with_a_checkpoint(stack.client, job)

    stack.client.jobs.pause(job.id)
    paused = wait_until(
        lambda: (now := stack.client.jobs.retrieve(job.id)).state is JobState.PAUSED and now,
        timeout_seconds=_END_SECONDS,
    )
    left_at = valid_checkpoints(stack, job)[-1]
    wait_until(lambda: not stack.processes("ray::RayTrainWorker"), timeout_seconds=60)
    stack.client.jobs.resume(job.id)
    job = finished(stack.client, job)

    assert (paused.attempt, paused.unclean) == (1, False)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert starts_in(log_of(stack.client, job, attempt=2)) == [left_at, left_at]
    assert valid_checkpoints(stack, job)[-1] == 4800


def test_a_fork_goes_on_from_another_jobs_checkpoint_with_its_changes(stack: Stack) -> None:
    parent = finished(stack.client, stack.client.jobs.create(smoke_spec()))

    fork = stack.client.jobs.fork(parent.id, images_seen=200, overrides={"duration_images": 480, "seed": 7})
    job = finished(stack.client, fork.job)

    assert [(change.pointer, change.before, change.after) for change in fork.changes] == [
        ("/duration_images", 320, 480),
        ("/seed", 0, 7),
    ]
    assert job.state is JobState.SUCCEEDED, job.message
    assert job.parent
    assert (job.parent.job_id, job.parent.images_seen) == (parent.id, 160)
    assert starts_in(log_of(stack.client, job)) == [160, 160]
    assert valid_checkpoints(stack, job) == [320, 480]
