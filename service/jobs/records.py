"""Jobs, attempts and events as values: one row each, and the changes a job can go through."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from service.cluster.base import Accelerator
from service.jobs.lifecycle import EventType, Intent, JobState
from workers.contract.records import Progress

_LOG_DUE = timedelta(minutes=10)
MLFLOW_DUE = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that is true or not of a job, whatever its state."""

    status: bool
    since: datetime
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job. `attempt` is the number of the present or last attempt, 0 before the first.

    Failures are counted in a row: a new checkpoint sets them back. `heard_at` and `advanced_at` are by our own clock.
    `dataset` is the digest of the image set that it imports or learns from; None = not known yet, "" = of none.
    `owner` is the principal who submitted it, or the training that it follows; None = not known.
    """

    id: str
    project: str = "default"
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 1
    max_runtime_seconds: float | None = None
    kind: str = "train"
    spec: str
    spec_sha256: str
    owner: str | None = None
    owner_name: str | None = None
    cost_key: str | None = None
    accelerator: Accelerator = "cpu"
    workers: int = 1
    parent_job_id: str | None = None
    parent_images: int | None = None
    state: JobState
    reason: str | None = None
    message: str | None = None
    created_at: datetime
    queued_at: datetime | None = None
    not_before: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    archived_at: datetime | None = None
    deleted_at: datetime | None = None
    attempt: int = 0
    intent: Intent | None = None
    stop_by: datetime | None = None
    unclean: bool = False
    platform_failures: int = 0
    user_failures: int = 0
    failure_signature: str | None = None
    progress: Progress | None = None
    heard_at: datetime | None = None
    advanced_at: datetime | None = None
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    mlflow_run_id: str | None = None
    mlflow_experiment_id: str | None = None
    mlflow_due_until: datetime | None = None
    record_due: bool = True
    purge_due: tuple[str, ...] = ()
    evaluations: str | None = None
    evaluated_images: int = 0
    evaluations_due: bool = False
    control_job_id: str | None = None
    comparison_due: bool = False
    dataset: str | None = None
    event_sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job that waits, as much of it as decides when its turn comes: hundreds of them are read all the time."""

    id: str
    project: str
    kind: str
    name: str | None
    owner: str | None
    owner_name: str | None
    priority: int
    accelerator: Accelerator
    workers: int
    max_runtime_seconds: float | None
    created_at: datetime
    queued_at: datetime | None
    reason: str | None
    message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One submission to the engine. The nonce tells ours from another with the same id; empty = found, not made, here.

    `from_images` is the checkpoint that was there when it was written down; `session` the engine's at submission;
    `stop_sent_at` says when the engine first took it that the attempt is to leave.
    """

    job_id: str
    number: int
    submission_id: str
    nonce: str
    session: str | None = None
    created_at: datetime
    from_images: int = 0
    submitted_at: datetime | None = None
    stop_sent_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str | None = None
    message: str | None = None
    log_due_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """Something that happened to a job. No `actor` = the service did it by itself."""

    job_id: str
    sequence: int
    type: str
    state: JobState
    attempt: int
    reason: str | None
    message: str | None
    actor: str | None
    created_at: datetime


def submission_id(job_id: str, number: int) -> str:
    """Says which attempt it is, so that submitting it again is harmless."""
    return f"{job_id}-a{number}"


def new_attempt(job_id: str, number: int, *, service: str, at: datetime, from_images: int = 0) -> AttemptRecord:
    """An attempt that has not been submitted.

    Its nonce is a function of who we are, so that an attempt whose row was lost with the database is known again.
    """
    ours = submission_id(job_id, number)
    return AttemptRecord(
        job_id=job_id,
        number=number,
        submission_id=ours,
        nonce=hashlib.sha256(f"{service}/{ours}".encode()).hexdigest()[:32],
        created_at=at,
        from_images=from_images,
    )


def checkpoint_images(job: JobRecord) -> int:
    """Images seen at the newest checkpoint that was heard of; 0 before the first."""
    return (job.progress and job.progress.last_checkpoint_images) or 0


def ended(attempt: AttemptRecord, *, at: datetime, reason: str | None, message: str | None) -> AttemptRecord:
    """The attempt when it is over; its log remains to be copied."""
    return replace(attempt, ended_at=at, reason=reason, message=message, log_due_until=at + _LOG_DUE)


def moved(job: JobRecord, *, to: JobState, at: datetime, reason: str | None, message: str | None) -> JobRecord:
    """The job in another state. Where it rests, nothing is asked of it any more; where it ends, MLflow is to hear.

    One that made room for another keeps its place in the queue.
    """
    changed = replace(job, state=to, reason=reason, message=message, record_due=True)
    if not to.is_active:
        changed = replace(changed, intent=None, stop_by=None)
    if to is JobState.QUEUED:
        kept = job.queued_at if job.intent is Intent.PREEMPT else None
        return replace(changed, queued_at=kept or at, dataset=job.dataset or None)
    if not to.is_terminal:
        return changed
    has_run = job.attempt and job.kind == "train"
    return replace(changed, ended_at=at, mlflow_due_until=at + MLFLOW_DUE if has_run else None)


def asked(job: JobRecord, intent: Intent, *, at: datetime, grace: timedelta) -> JobRecord:
    """The job when it is to leave the engine, within `grace`."""
    state = JobState.PAUSING if intent in {Intent.PAUSE, Intent.PREEMPT, Intent.RESTART} else JobState.CANCELLING
    return replace(
        moved(job, to=state, at=at, reason=_WHY_IT_LEAVES[intent], message=None), intent=intent, stop_by=at + grace
    )


_WHY_IT_LEAVES = {
    Intent.CANCEL: None,
    Intent.PAUSE: None,
    Intent.PREEMPT: "preempted",
    Intent.EXPIRE: "max_runtime_exceeded",
    Intent.RESTART: "stalled",
}


def with_condition(job: JobRecord, kind: str, *, status: bool, message: str | None, at: datetime) -> JobRecord:
    """The job with something found true or not of it; `since` stays while the answer does."""
    before = job.conditions.get(kind)
    since = before.since if before and before.status is status else at
    return replace(job, conditions={**job.conditions, kind: Condition(status=status, since=since, message=message)})


def condition_events(job: JobRecord, changed: JobRecord) -> list[EventType]:
    """What to tell of conditions that turned; that all is well at first is no news."""
    turned = list[EventType]()
    for kind, condition in changed.conditions.items():
        before = job.conditions.get(kind)
        if condition.status is not (before.status if before else True):
            turned.append(_CONDITION_EVENTS[kind][condition.status])
    return turned


_CONDITION_EVENTS: Mapping[str, tuple[EventType, EventType]] = {  # when it turns false, and true
    "BackendReachable": ("backend_unreachable", "backend_reachable"),
    "Heartbeating": ("heartbeat_lost", "heartbeat_back"),
    "Progressing": ("stalled", "progressing"),
    "ResourcesAvailable": ("resources_missing", "resources_available"),
    "TrackingCurrent": ("tracking_delayed", "tracking_current"),
}
CONDITIONS = tuple(_CONDITION_EVENTS)
