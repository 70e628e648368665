"""Nobody waits for ever for a worker that draws and does not answer: another does its share."""

import pytest

from service.jobs.views import Job, JobState
from tests.support.specs import smoke_spec
from tests.support.stack_jobs import END_SECONDS, finished, log_of
from tests.support.waiting import wait_until
from tests.support.whole_stack import Stack
from workers.contract.sampling import SampleSpec

pytestmark = pytest.mark.timeout(600)

_NUM_IMAGES = 6_000  # a minute's work of two workers


def test_a_frozen_worker_is_ended_and_all_images_are_drawn(stack: Stack) -> None:
    trained = finished(stack.client, stack.client.jobs.create(smoke_spec()))
    assert trained.state is JobState.SUCCEEDED, trained.message
    spec = SampleSpec.model_validate(
        {
            "kind": "sample",
            "checkpoint": {"job_id": trained.id},
            "num_images": _NUM_IMAGES,
            "pass_images": 50,
            "archive": None,
            "compute": {"workers": 2, "accelerator": "cpu", "hang_seconds": 5},
        }
    )
    job = stack.client.jobs.create(spec)
    kept = _with_images(stack, job)
    (frozen, other) = stack.processes("ray::RayTrainWorker")

    frozen.suspend()
    job = finished(stack.client, job)

    assert job.state is JobState.SUCCEEDED, job.message
    assert job.attempt == 1  # Ray Train restarted its workers; the driver lived on
    assert not frozen.is_running()
    assert not other.is_running()
    assert "a worker health check has been hanging" in log_of(stack.client, job).lower()
    assert job.progress
    assert job.progress.images_seen == _NUM_IMAGES > kept


def _with_images(stack: Stack, job: Job) -> int:
    """How many images it has stored, once it has some and while most are to come."""

    def stored() -> int:
        now = stack.client.jobs.retrieve(job.id)
        assert not now.state.is_terminal, now.message
        return now.progress.images_seen if now.progress else 0

    images = wait_until(stored, timeout_seconds=END_SECONDS)
    assert images < _NUM_IMAGES / 2
    return images
