"""What to do next about a job, decided from what is known of it. Pure: nothing here reads or writes anything.

Unreachable is not dead: an attempt is over only on positive evidence (`_verdict`).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from service.cluster.base import Run, RunStatus
from service.jobs.records import AttemptRecord, JobRecord, checkpoint_images
from service.jobs.views import JobState
from workers.contract.records import Outcome, Progress, Reason

_SUBMISSION_SETTLES = timedelta(seconds=15)  # until then, an engine that knows no such id may just be late
_HEARTBEAT_STALE = timedelta(seconds=90)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The engine did not answer."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the engine and the object store say. `run` is None where the engine says that it knows no such id."""

    run: Run | Unreachable | None = None
    outcome: Outcome | None = None
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Stay in the queue, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Begin:
    """Write the first attempt down."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Hand the attempt to the engine; it may have it already."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """The engine has the attempt: an answer got lost."""


@dataclass(frozen=True, slots=True)
class Revoke:
    """Take the attempt's claim, so that no driver that is still to come can run it."""


@dataclass(frozen=True, slots=True)
class MarkRunning:
    """It trains."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the engine to end the attempt."""


@dataclass(frozen=True, slots=True)
class Retry:
    """End the attempt and write the next one down; so many in a row have been lost without a new checkpoint."""

    reason: str
    message: str
    fruitless: int


@dataclass(frozen=True, slots=True)
class Finish:
    """End the job."""

    state: JobState
    reason: str | None
    message: str | None


Action = Wait | Hold | Begin | Submit | Adopt | Revoke | MarkRunning | Stop | Retry | Finish


def decide(
    job: JobRecord,
    attempt: AttemptRecord | None,
    observed: Observed,
    *,
    now: datetime,
    admitted: bool,
    max_attempts: int,
) -> Action:
    """The next step; at most one side effect. `attempt` is the job's present one, None in the queue."""
    match job.state:
        case JobState.QUEUED:
            return _from_queue(observed, admitted=admitted)
        case JobState.STARTING | JobState.RUNNING | JobState.CANCELLING:
            if attempt is None:
                raise LookupError(f"{job.id} left the queue without an attempt")
            verdict = _verdict(attempt, observed, now=now)
            if verdict is None:
                return _meanwhile(job, attempt, observed)
            if job.state is JobState.CANCELLING:
                return _when_cancelling(verdict)
            return _when_over(verdict, job, attempt, max_attempts=max_attempts)
        case JobState.SUCCEEDED | JobState.FAILED | JobState.CANCELLED:
            return Wait()
        case _:
            assert_never(job.state)


def _from_queue(observed: Observed, *, admitted: bool) -> Action:
    if not admitted:
        return Hold("waiting_capacity")
    return Hold("backend_down") if isinstance(observed.run, Unreachable) else Begin()


@dataclass(frozen=True, slots=True)
class _Lost:
    """Over without a last word."""

    message: str
    is_own_fault: bool = True


def _verdict(attempt: AttemptRecord, observed: Observed, *, now: datetime) -> Outcome | Finish | _Lost | None:
    """How the attempt ended; None while there is no proof that it did."""
    run = observed.run
    if isinstance(run, Run) and run.metadata.get("cdm_nonce") != attempt.nonce:
        message = f"the engine runs something else as {attempt.submission_id}"
        return Finish(JobState.FAILED, "submission_conflict", message)
    if observed.outcome:
        return observed.outcome
    if isinstance(run, Unreachable) or attempt.submitted_at is None:
        return None
    if run is None:
        settled = now - attempt.submitted_at > _SUBMISSION_SETTLES
        forgotten = _Lost("the engine no longer knows the attempt; was its head restarted?", is_own_fault=False)
        return forgotten if settled else None
    if not run.status.is_terminal:
        return None
    heartbeat = max(attempt.submitted_at, observed.progress.updated_at if observed.progress else attempt.submitted_at)
    if _is_hearsay(run) and now - heartbeat <= _HEARTBEAT_STALE:
        return None
    return _Lost(f"the driver left no outcome; the engine says {run.status}: {run.message or 'nothing more'}")


def _is_hearsay(run: Run) -> bool:
    """The engine lost sight of the driver (JOB_SUPERVISOR_...), which may well be alive."""
    proofs = ("JOB_ENTRYPOINT_", "RUNTIME_ENV_")
    return run.status is RunStatus.FAILED and not (run.error_type or "").startswith(proofs)


def _meanwhile(job: JobRecord, attempt: AttemptRecord, observed: Observed) -> Action:
    if isinstance(observed.run, Run):
        if attempt.submitted_at is None:
            return Adopt()
        if job.state is JobState.CANCELLING:
            return Stop()
    elif observed.run is None and attempt.submitted_at is None:
        return Revoke() if job.state is JobState.CANCELLING else Submit()
    trains = observed.progress is not None and observed.progress.phase != "preparing"
    return MarkRunning() if trains and job.state is JobState.STARTING else Wait()


def _when_cancelling(verdict: Outcome | Finish | _Lost) -> Finish:
    match verdict:
        case Finish():
            return verdict
        case Outcome(status="succeeded"):
            return Finish(JobState.SUCCEEDED, None, "it was done before it could be cancelled")
        case Outcome(status="stopped"):
            return Finish(JobState.CANCELLED, None, verdict.message or None)
        case Outcome():
            return Finish(JobState.CANCELLED, None, f"unclean: {verdict.message}")
        case _Lost():
            return Finish(JobState.CANCELLED, None, f"unclean: {verdict.message}")
        case _:
            assert_never(verdict)


def _when_over(
    verdict: Outcome | Finish | _Lost, job: JobRecord, attempt: AttemptRecord, *, max_attempts: int
) -> Action:
    fruitless = 0 if checkpoint_images(job) > attempt.from_images else job.fruitless_attempts
    match verdict:
        case Finish():
            return verdict
        case Outcome(status="succeeded"):
            return Finish(JobState.SUCCEEDED, None, verdict.message or None)
        case Outcome(reason=Reason.STORAGE_ERROR):
            again = Retry("storage_error", f"attempt {attempt.number}: {verdict.message}", fruitless + 1)
        case Outcome(status="failed"):
            return Finish(JobState.FAILED, verdict.reason or "internal", verdict.message)
        case Outcome():
            message = f"attempt {attempt.number} was stopped by something else: {verdict.message}"
            again = Retry("stopped", message, fruitless)
        case _Lost():
            message = f"attempt {attempt.number}: {verdict.message}"
            again = Retry("driver_lost", message, fruitless + verdict.is_own_fault)
        case _:
            assert_never(verdict)
    if again.fruitless < max_attempts:
        return again
    return Finish(JobState.FAILED, "retries_exhausted", again.message)
