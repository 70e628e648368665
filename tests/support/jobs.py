"""Jobs, attempts, and what engine and workers say of them, made by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

from service.cluster.base import Run, RunStatus
from service.jobs.lifecycle import JobState
from service.jobs.records import AttemptRecord, JobRecord
from workers.contract.presets import PRESETS
from workers.contract.records import Outcome, Progress

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
SPEC = PRESETS["smoke"]
PROOFS = ("JOB_ENTRYPOINT_COMMAND_ERROR", "JOB_ENTRYPOINT_COMMAND_START_ERROR", "RUNTIME_ENV_SETUP_FAILURE")
HEARSAY = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE", None)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def job(state: JobState = JobState.RUNNING, **fields: Any) -> JobRecord:
    """A job in its first attempt, unless that is still to come."""
    given: dict[str, Any] = {
        "id": "job_1",
        "spec": SPEC.model_dump_json(),
        "spec_sha256": "0" * 64,
        "created_at": LONG_AGO,
        "started_at": LONG_AGO if state.is_active else None,
        "attempt": 0 if state is JobState.QUEUED else 1,
    }
    return JobRecord(state=state, **(given | fields))


def attempt(number: int = 1, **fields: Any) -> AttemptRecord:
    """One that was submitted long ago and is not over."""
    given: dict[str, Any] = {
        "job_id": "job_1",
        "submission_id": f"job_1-a{number}",
        "nonce": "ours",
        "session": "session_1",
        "created_at": LONG_AGO,
        "submitted_at": LONG_AGO,
    }
    return AttemptRecord(number=number, **(given | fields))


def run(
    status: RunStatus = RunStatus.RUNNING, error_type: str | None = None, *, nonce: str = "ours", message: str = ""
) -> Run:
    return Run(
        submission_id="job_1-a1",
        status=status,
        error_type=error_type,
        message=message or None,
        metadata={"cdm_nonce": nonce},
    )


def outcome(status: str, reason: str | None = None, *, message: str = "said so") -> Outcome:
    fields = {"status": status, "reason": reason, "message": message, "images_seen": 1, "mlflow_run_id": None}
    return Outcome.model_validate({**fields, "ended_at": NOW})


def progress(phase: str = "training", **fields: Any) -> Progress:
    given: dict[str, Any] = {
        "phase": phase,
        "images_seen": 100,
        "total_images": 320,
        "images_per_second": 10.0,
        "eta_seconds": 22.0,
        "losses": {"dsm": 0.5},
        "last_checkpoint_images": None,
        "num_workers": 2,
        "mlflow_run_id": None,
        "updated_at": NOW,
    }
    return Progress.model_validate(given | fields)
