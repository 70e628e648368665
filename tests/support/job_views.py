"""Jobs as a service answers with them, made by hand."""

from typing import Any

from service.jobs.views import Job
from workers.contract.presets import PRESETS


def job_view(job_id: str = "job_1", *, state: str = "running", **changes: Any) -> Job:
    """A job that nothing is said of but this."""
    document = {
        "id": job_id,
        "project": "default",
        "name": None,
        "labels": {},
        "priority": "normal",
        "max_runtime_seconds": None,
        "state": state,
        "reason": None,
        "message": None,
        "queue_position": None,
        "unclean": False,
        "spec": PRESETS["smoke"],
        "spec_sha256": "0" * 64,
        "parent": None,
        "created_at": "2026-11-01T00:00:00Z",
        "queued_at": "2026-11-01T00:00:00Z",
        "started_at": None,
        "ended_at": None,
        "archived_at": None,
        "attempt": 0,
        "progress": None,
        "mlflow_url": None,
        "conditions": (),
        "allowed": ("cancel",),
        "links": {},
    }
    return Job.model_validate({**document, **changes})
