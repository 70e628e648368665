"""What is asked of a job that ran on the stack of docker-compose.yml, from outside of it."""

import json
from typing import Any

import httpx2

from service.client import Client
from service.jobs.views import Job, JobState
from tests.support.compose import Compose
from tests.support.stack_jobs import mlflow
from tests.support.waiting import wait_until
from workers.contract.tracking import JOB_TAG

END_SECONDS = 420.0

# Run in the API's container, which has the keys of S3.
_VERIFY = """
import hashlib, json, sys
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.records import CheckpointManifest
from workers.storage import open_store
store, job = open_store("s3://cdm"), JobKeys(sys.argv[1])
whole = []
for key in store.list(job.checkpoints):
    folder, _, name = key.rpartition("/")
    if name == MANIFEST:
        manifest = CheckpointManifest.model_validate_json(store.get(key))
        for file in manifest.files:
            assert hashlib.sha256(store.get(f"{folder}/{file.name}")).hexdigest() == file.sha256
        whole.append(manifest.images_seen)
print(json.dumps(sorted(whole)))
"""


def ended(client: Client, job: Job) -> Job:
    """The job at its end. Until then the service may be away."""

    def now() -> Job | None:
        try:
            found = client.jobs.retrieve(job.id)
        except Exception:  # noqa: BLE001 (whatever is down: that is what these tests do)
            return None
        return found if found.state.is_terminal else None

    return wait_until(now, timeout_seconds=END_SECONDS)


def checkpoints(compose: Compose, job: Job) -> list[int]:
    """Images seen of each committed checkpoint, every byte of it verified."""
    return json.loads(compose.run("exec", "-T", "api", "python", "-", job.id, stdin=_VERIFY))


def assert_nothing_is_lost(compose: Compose, client: Client, job: Job) -> None:
    """It has succeeded once, and left each checkpoint, picture and point of its curve, in one run."""
    spec = client.jobs.retrieve(job.id).spec
    assert job.state is JobState.SUCCEEDED, (job.reason, job.message)
    reasons = [attempt.reason for attempt in client.jobs.attempts(job.id)]
    assert reasons.count(None) == 1, reasons
    total = spec.duration_images
    assert checkpoints(compose, job)[-1] == total
    assert client.jobs.samples(job.id)[-1] == total
    assert client.jobs.sample(job.id).startswith(b"\x89PNG")
    steps = list(range(spec.cadence.log_images, total + 1, spec.cadence.log_images))
    wait_until(lambda: curve(job) == steps, timeout_seconds=120)
    wait_until(lambda: mlflow(job, "runs/get")["run"]["info"]["status"] == "FINISHED", timeout_seconds=60)
    assert len(runs_of(job)) == 1


def curve(job: Job) -> list[int]:
    """Images seen at each point of its loss in MLflow."""
    points = mlflow(job, "metrics/get-history", metric_key="loss/dsm", max_results=10000)["metrics"]
    return [point["step"] for point in points]


def runs_of(job: Job) -> list[Any]:
    """All of MLflow's runs that say they are of this job."""
    assert job.mlflow_url
    base, _, path = job.mlflow_url.partition("/#/")
    experiment = path.split("/")[1]
    asked = {"experiment_ids": [experiment], "filter": f"tags.`{JOB_TAG}` = '{job.id}'"}
    answer = httpx2.post(f"{base}/api/2.0/mlflow/runs/search", json=asked, timeout=30).raise_for_status()
    return answer.json().get("runs", [])
