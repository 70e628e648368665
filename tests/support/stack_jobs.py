"""What tests on a whole stack ask of its jobs."""

import hashlib
from typing import Any

import httpx2

from service.client import Client
from service.jobs.views import Job
from tests.support.waiting import wait_until
from tests.support.whole_stack import Stack
from workers.contract.keys import DRIVER_LOG, MANIFEST
from workers.contract.records import CheckpointManifest

LONG = {"duration_images": 4800, "cadence": {"log_images": 80, "checkpoint_images": 800}}
END_SECONDS = 240


def finished(client: Client, job: Job) -> Job:
    return client.jobs.wait(job.id, timeout=END_SECONDS, poll_seconds=0.2)


def with_a_checkpoint(client: Client, job: Job) -> Job:
    """The job once it has committed a checkpoint, and is going on."""

    def checked() -> Job | None:
        now = client.jobs.retrieve(job.id)
        assert not now.state.is_terminal, now.message
        return now if now.progress and now.progress.last_checkpoint_images else None

    return wait_until(checked, timeout_seconds=END_SECONDS)


def log_of(client: Client, job: Job, *, attempt: int = 1, source: str = DRIVER_LOG) -> str:
    """A whole log; the driver's has what the ranks printed, too."""
    text, offset = "", 0
    while piece := client.jobs.logs(job.id, attempt=attempt, source=source, offset=offset).text:
        text += piece
        offset += len(piece.encode())
    return text


def mlflow(job: Job, call: str, **parameters: Any) -> Any:
    """Ask the MLflow of this job's page."""
    assert job.mlflow_url
    base, _, path = job.mlflow_url.partition("/#/")
    asked = {**parameters, "run_id": path.split("/")[-1].partition("?")[0]}
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


def starts_in(log: str) -> list[int]:
    """How many images had been seen when each worker began, as the log tells it."""
    return [int(part.split()[0]) for part in log.split("device=cpu images_seen=")[1:]]
