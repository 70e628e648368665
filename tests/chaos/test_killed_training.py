"""What is killed while it trains costs at most what it did since its last checkpoint."""

import pytest

from service.jobs.views import Job, JobState
from tests.support.specs import smoke_spec
from tests.support.stack_jobs import (
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
from workers.training.watchdog import HUNG

pytestmark = pytest.mark.timeout(400)


def steps_in_mlflow(job: Job) -> list[int]:
    return sorted(point["step"] for point in mlflow(job, "metrics/get-history", metric_key="loss/dsm")["metrics"])


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
    wait_until(lambda: steps_in_mlflow(job) == [*range(80, 4801, 80)])  # the service brings what the killed one had not


def test_a_frozen_worker_is_noticed_by_the_other_and_costs_at_most_one_checkpoint_interval(stack: Stack) -> None:
    compute = {"workers": 2, "accelerator": "cpu", "hang_seconds": 5}
    job = stack.client.jobs.create(smoke_spec(**LONG, compute=compute))
    kept = with_a_checkpoint(stack.client, job)
    assert kept.progress
    (frozen, *_) = stack.processes("ray::RayTrainWorker")

    frozen.suspend()
    job = finished(stack.client, job)

    assert job.state is JobState.SUCCEEDED, job.message
    assert job.attempt == 1
    words = [log_of(stack.client, job, source=source) for source in ("rank-0000", "rank-0001")]
    assert sum(f"error: {HUNG}: no step for 5 s" in each for each in words) == 1
    assert not frozen.is_running()
    resumed_at = starts_in(log_of(stack.client, job))
    assert len(resumed_at) == 4
    assert all(images >= (kept.progress.last_checkpoint_images or 0) for images in resumed_at[2:])
    assert valid_checkpoints(stack, job) == list(range(800, 4801, 800))


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
