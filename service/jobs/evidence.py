"""What is known of a job's attempt, weighed: from what the engine and the object store say to what `decide` needs.

An attempt is over only on positive evidence: its own last record, the engine's verdict on its command, or an engine
that can no longer run it. That the engine cannot be reached, or lost sight of a driver that still beats, is no proof.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.cluster.base import Run, RunStatus
from service.jobs.budgets import budgeted
from service.jobs.lifecycle import Ending, EngineStatus, Facts, Intent, JobState, Verdict
from service.jobs.records import AttemptRecord, JobRecord
from service.settings import Retries, Watch
from workers.contract.records import Outcome, Progress

_SUBMISSION_SETTLES = timedelta(seconds=60)  # until then, an engine that knows no such id may just be late
_HEARTBEAT_STALE = timedelta(seconds=90)
_STALL_REPORTS = 10
UNDER_WAY = (JobState.STARTING, JobState.RUNNING, JobState.RECOVERING)  # and not made to leave
_RECEIVERS = {"journal": "the object store", "mlflow": "MLflow", "mlflow_pictures": "MLflow (pictures)"}


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The engine did not answer, nor has it since then."""

    message: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the engine and the object store say. `run` is None where the engine says that it knows no such id."""

    run: Run | Unreachable | None = None
    session: str | None = None
    outcome: Outcome | None = None
    progress: Progress | None = None
    claimed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an operator allows."""

    retries: Retries
    watch: Watch
    stop_patience: timedelta


def facts_of(
    job: JobRecord, attempt: AttemptRecord | None, observed: Observed, *, now: datetime, limits: Limits
) -> Facts:
    """Everything that `decide` needs about a job that is not in the queue."""
    if attempt is None or attempt.ended_at:
        due = job.not_before is None or now >= job.not_before
        expired = _expired(job, now=now)
        return Facts(state=job.state, intent=job.intent, between=True, may_begin=due, expired=expired)
    progress = observed.progress
    return Facts(
        state=job.state,
        intent=job.intent,
        submitted=attempt.submitted_at is not None,
        engine_status=_engine_status(observed.run),
        verdict=_verdict(job, attempt, observed, now=now, limits=limits),
        trains=progress is not None and progress.phase not in {"preparing", "waiting"},
        restarts=progress is not None and progress.phase == "preparing",
        waiting_for=progress.waiting_for if progress else None,
        expired=_expired(job, now=now),
        stalled=limits.watch.restart_stalled and is_stalled(job, now=now, limits=limits),
        overdue=_overdue(attempt, observed, now=now, limits=limits),
        force=_had_its_time(job, attempt, observed, now=now, limits=limits),
    )


def never_began(job: JobRecord, attempt: AttemptRecord, *, now: datetime, limits: Limits) -> Verdict:
    """What it means that no driver can claim the attempt any more, and none has."""
    if job.intent:
        return Verdict(ending=Ending.LEFT, reason="not_started", message="it had not started")
    waited = int(limits.watch.start_timeout_seconds)
    late = _failed("start_timeout", f"the engine did not start it within {waited} s")
    return budgeted(late, job, attempt, now=now, retries=limits.retries)


def taken(job: JobRecord, attempt: AttemptRecord, *, now: datetime, limits: Limits) -> Verdict:
    """What it means that an attempt had to be fenced."""
    late = _failed("stopped", "it did not leave in time; what it still does is seen by nobody")
    return budgeted(late, job, attempt, now=now, retries=limits.retries)


def is_silent(job: JobRecord, *, now: datetime) -> bool:
    """It has beaten, and then no more."""
    return job.heard_at is not None and now - job.heard_at > _HEARTBEAT_STALE


def is_stalled(job: JobRecord, *, now: datetime, limits: Limits) -> bool:
    """It trains and has seen no new image for ten of its reports, and for minutes; or does not come to train."""
    patience = _patience(job, limits=limits)
    return patience is not None and job.advanced_at is not None and now - job.advanced_at > patience


def tracking_delay(progress: Progress) -> str | None:
    """Who gets nothing of what a worker has to tell, for how long, and how much waits, in words; None if all is told.

    Both times are of the worker's clock.
    """
    delays = (
        f"{_RECEIVERS.get(name, name)} has taken nothing for {_minutes(progress.updated_at - behind.since)}: "
        f"{behind.waiting:,} records wait in memory and are delivered when it is back"
        for name, behind in sorted(progress.tracking_behind.items())
    )
    return "; ".join(delays) or None


def _patience(job: JobRecord, *, limits: Limits) -> timedelta | None:
    """How long a training may go without another image or phase; None where nobody can tell."""
    progress = job.progress
    if job.kind != "train" or progress is None:
        return None
    spec, stall_timeout = json.loads(job.spec), timedelta(seconds=limits.watch.stall_timeout_seconds)
    compute = spec["compute"]
    if progress.phase == "preparing" and job.state in UNDER_WAY and "start_seconds" in compute:  # else of long ago
        first_step = timedelta(seconds=max(compute["start_seconds"], compute["hang_seconds"]))
        return first_step + stall_timeout  # its workers' own watchdogs are first
    if progress.phase == "training" and job.state is JobState.RUNNING and progress.images_per_second:
        between = spec["cadence"]["log_images"] / progress.images_per_second  # progress is told no more often
        return max(stall_timeout, timedelta(seconds=min(_STALL_REPORTS * between, 86_400.0)))
    return None


def _minutes(span: timedelta) -> str:
    return f"{round(span / timedelta(minutes=1))} min"


def _engine_status(run: Run | Unreachable | None) -> EngineStatus:
    match run:
        case None:
            return EngineStatus.UNKNOWN
        case Unreachable():
            return EngineStatus.UNREACHABLE
        case Run():
            return EngineStatus.OVER if run.status.is_terminal else EngineStatus.ALIVE


def _expired(job: JobRecord, *, now: datetime) -> bool:
    limit = job.max_runtime_seconds
    return limit is not None and job.started_at is not None and now - job.started_at > timedelta(seconds=limit)


def _had_its_time(job: JobRecord, attempt: AttemptRecord, observed: Observed, *, now: datetime, limits: Limits) -> bool:
    """Its deadline to leave is over. It may be over unheard: if nobody could tell the engine, or the service was away.

    Then only a cancellation, whose deadline its user may choose, goes before the last checkpoint of one that can still
    be told. An engine that does not answer may soon be told, too: it has as long for that, from the first look in vain.
    """
    if job.stop_by is None or now <= job.stop_by:
        return False
    if job.intent is Intent.CANCEL:
        return True
    if isinstance(observed.run, Unreachable):
        return now > observed.run.since + limits.stop_patience
    return attempt.stop_sent_at is not None


def _overdue(attempt: AttemptRecord, observed: Observed, *, now: datetime, limits: Limits) -> bool:
    if attempt.submitted_at is None or observed.claimed or observed.progress:
        return False
    return now - attempt.submitted_at > timedelta(seconds=limits.watch.start_timeout_seconds)


def _verdict(
    job: JobRecord, attempt: AttemptRecord, observed: Observed, *, now: datetime, limits: Limits
) -> Verdict | None:
    """How the attempt ended; None while there is no proof that it did."""
    run = observed.run
    if isinstance(run, Run) and attempt.nonce and run.metadata.get("cdm_nonce") != attempt.nonce:
        return _failed("submission_conflict", f"the engine runs something else as {attempt.submission_id}")
    if observed.outcome:
        return _by_itself(job, attempt, observed.outcome, now=now, limits=limits)
    lost = _lost(job, attempt, observed, now=now)
    return budgeted(lost, job, attempt, now=now, retries=limits.retries) if lost else None


def _by_itself(job: JobRecord, attempt: AttemptRecord, outcome: Outcome, *, now: datetime, limits: Limits) -> Verdict:
    """What the driver's own last record means."""
    if outcome.status == "succeeded":
        return Verdict(ending=Ending.DONE, reason="", message=outcome.message)
    if outcome.status == "stopped":
        ending, reason = Ending.LEFT if job.intent else Ending.FAILED, "stopped"
    else:
        ending, reason = Ending.FAILED, outcome.reason or "internal"
    verdict = Verdict(ending=ending, reason=reason, message=outcome.message)
    return budgeted(verdict, job, attempt, now=now, retries=limits.retries)


def _lost(job: JobRecord, attempt: AttemptRecord, observed: Observed, *, now: datetime) -> Verdict | None:
    """It ended without a last record."""
    run = observed.run
    if isinstance(run, Unreachable) or attempt.submitted_at is None:
        return None
    beats = observed.progress is not None and job.heard_at is not None and now - job.heard_at <= _HEARTBEAT_STALE
    if run is None:
        if attempt.session and observed.session and attempt.session != observed.session:
            return None if beats else _failed("head_restarted", "the engine was restarted and knows nothing of it")
        settled = now - attempt.submitted_at > _SUBMISSION_SETTLES and not beats
        return _failed("head_restarted", "the engine no longer knows the attempt") if settled else None
    if not run.status.is_terminal:
        return None
    if _is_hearsay(run):
        began = max(attempt.submitted_at, job.heard_at or attempt.submitted_at)
        if now - began <= _HEARTBEAT_STALE:
            return None
    said = run.message or "nothing more"
    if run.status is RunStatus.STOPPED:
        return _failed("stopped", "the engine ended it before it could leave a checkpoint")
    return _failed("driver_lost", f"the driver left no outcome; the engine says {run.status}: {said}")


def _is_hearsay(run: Run) -> bool:
    """The engine lost sight of the driver (JOB_SUPERVISOR_...), which may well be alive."""
    proofs = ("JOB_ENTRYPOINT_", "RUNTIME_ENV_")
    return run.status is RunStatus.FAILED and not (run.error_type or "").startswith(proofs)


def _failed(reason: str, message: str) -> Verdict:
    return Verdict(ending=Ending.FAILED, reason=reason, message=message)
