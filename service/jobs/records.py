"""Jobs, attempts and events as values: one row each, and the changes a job can go through."""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from service.jobs.views import JobState
from workers.contract.records import Progress

_LOG_DUE = timedelta(minutes=10)
_MLFLOW_DUE = timedelta(hours=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job. `attempt` is the number of the present or last attempt, 0 before the first.

    `fruitless_attempts` counts those lost in a row that left no new checkpoint.
    """

    id: str
    name: str | None
    state: JobState
    spec: str
    spec_sha256: str
    created_at: datetime
    attempt: int = 0
    fruitless_attempts: int = 0
    reason: str | None = None
    message: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: Progress | None = None
    backend_reachable: bool | None = None
    backend_message: str | None = None
    backend_since: datetime | None = None
    mlflow_run_id: str | None = None
    mlflow_experiment_id: str | None = None
    mlflow_due_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One submission to the engine. The nonce tells ours from another with the same id.

    `from_images` is the checkpoint that was there when it was written down.
    """

    job_id: str
    number: int
    submission_id: str
    nonce: str
    created_at: datetime
    from_images: int = 0
    submitted_at: datetime | None = None
    ended_at: datetime | None = None
    log_due_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """Something that happened to a job."""

    job_id: str
    sequence: int
    type: str
    state: JobState
    attempt: int
    reason: str | None
    message: str | None
    created_at: datetime


def new_attempt(job_id: str, number: int, *, at: datetime, from_images: int = 0) -> AttemptRecord:
    """An attempt that has not been submitted; its id says which it is, so that submitting it again is harmless."""
    return AttemptRecord(
        job_id=job_id,
        number=number,
        submission_id=f"{job_id}-a{number}",
        nonce=secrets.token_hex(16),
        created_at=at,
        from_images=from_images,
    )


def checkpoint_images(job: JobRecord) -> int:
    """Images seen at the newest checkpoint that was heard of; 0 before the first."""
    return (job.progress and job.progress.last_checkpoint_images) or 0


def ended(attempt: AttemptRecord, *, at: datetime) -> AttemptRecord:
    """The attempt when it is over; its log remains to be copied."""
    return replace(attempt, ended_at=at, log_due_until=at + _LOG_DUE)


def moved(job: JobRecord, *, to: JobState, at: datetime, reason: str | None, message: str | None) -> JobRecord:
    """The job in another state; if that is final, its MLflow run remains to be closed."""
    changed = replace(job, state=to, reason=reason, message=message)
    if not to.is_terminal:
        return changed
    return replace(changed, ended_at=at, mlflow_due_until=at + _MLFLOW_DUE if job.mlflow_run_id else None)


def heard(job: JobRecord, *, reachable: bool, message: str | None, at: datetime) -> JobRecord:
    """The job after the engine answered about it, or did not."""
    if job.backend_reachable is reachable:
        return replace(job, backend_message=message)
    return replace(job, backend_reachable=reachable, backend_message=message, backend_since=at)


def backend_event(job: JobRecord, changed: JobRecord) -> str | None:
    """What to tell if the engine came or went; that it answers at first is no news."""
    if job.backend_reachable is changed.backend_reachable:
        return None
    if changed.backend_reachable:
        return "backend_reachable" if job.backend_reachable is False else None
    return "backend_unreachable"
