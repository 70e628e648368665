"""What users can have a job do, and in which states. Pure: a job goes in, the changed job comes out."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from service.errors import StateConflict
from service.jobs.lifecycle import Intent, JobState
from service.jobs.records import MLFLOW_DUE, JobRecord, asked, moved

_IN_THE_ENGINE = frozenset({"cancel", "pause", "fork"})
_ENDED = frozenset({"fork", "archive", "restore", "replay", "delete"})

ALLOWED: dict[JobState, frozenset[str]] = {
    JobState.QUEUED: frozenset({"cancel", "pause", "fork"}),
    JobState.STARTING: _IN_THE_ENGINE,
    JobState.RUNNING: _IN_THE_ENGINE,
    JobState.RECOVERING: _IN_THE_ENGINE,
    JobState.PAUSING: _IN_THE_ENGINE,
    JobState.PAUSED: frozenset({"cancel", "resume", "pause", "fork"}),
    JobState.CANCELLING: frozenset({"cancel", "fork"}),
    JobState.SUCCEEDED: _ENDED,
    JobState.FAILED: _ENDED | {"retry"},
    JobState.CANCELLED: _ENDED | {"retry"},
}
_OF_TRAININGS = frozenset({"fork", "replay"})
Verb = Callable[[JobRecord], JobRecord]


def allowed(job: JobRecord) -> tuple[str, ...]:
    """What it can be asked now, in alphabetical order, but for what would change nothing."""
    idle = {"archive" if job.archived_at else "restore", *(["pause"] if job.state is JobState.PAUSED else [])}
    return tuple(sorted(_accepted(job) - idle))


def _accepted(job: JobRecord) -> frozenset[str]:
    """Also what is so already, and is asked again after an answer that was lost."""
    return ALLOWED[job.state] if job.kind == "train" else ALLOWED[job.state] - _OF_TRAININGS


def require(job: JobRecord, verb: str, *, mend: str | None = None) -> None:
    """Refuse what is not possible now; `mend` says what else leads there.

    Raises:
        StateConflict: saying what is.
    """
    if verb not in _accepted(job):
        verbs = allowed(job)
        if verb in _OF_TRAININGS and job.kind != "train":
            mend = f"only trainings can, and it is a job of kind {job.kind}"
        raise StateConflict(
            f"{job.id} is {job.state}: it cannot {verb}; {f'{mend}; ' if mend else ''}possible: {', '.join(verbs)}",
            current_state=job.state,
            allowed=[*verbs],
        )


def cancel(job: JobRecord, *, at: datetime, grace: timedelta) -> JobRecord:
    """End a job that waits, or ask one that runs to leave; asked again, the shorter grace holds."""
    require(job, "cancel")
    if not job.state.is_active:
        return moved(job, to=JobState.CANCELLED, at=at, reason=None, message=None)
    if job.intent is Intent.CANCEL and job.stop_by:
        return replace(job, stop_by=min(job.stop_by, at + grace))
    return asked(job, Intent.CANCEL, at=at, grace=grace)


def pause(job: JobRecord, *, at: datetime, grace: timedelta) -> JobRecord:
    """Have it leave the engine after a checkpoint, and stay out until it is resumed."""
    require(job, "pause")
    if job.state is JobState.PAUSED or job.intent is Intent.PAUSE:
        return job
    if not job.state.is_active:
        return moved(job, to=JobState.PAUSED, at=at, reason=None, message=None)
    return asked(job, Intent.PAUSE, at=at, grace=grace)


def resume(job: JobRecord, *, at: datetime) -> JobRecord:
    """Back into the queue."""
    require(job, "resume")
    return moved(job, to=JobState.QUEUED, at=at, reason=None, message=None)


def retry(job: JobRecord, *, at: datetime) -> JobRecord:
    """Another attempt at a job that failed or was cancelled, from its newest checkpoint, with fresh budgets."""
    require(job, "retry")
    return replace(
        moved(job, to=JobState.QUEUED, at=at, reason=None, message=None),
        ended_at=None,
        archived_at=None,
        mlflow_due_until=None,
        unclean=False,
        platform_failures=0,
        user_failures=0,
        failure_signature=None,
        evaluations_due=job.evaluations is not None,
    )


def archive(job: JobRecord, *, at: datetime) -> JobRecord:
    """Out of the usual lists; nothing is removed."""
    require(job, "archive")
    return replace(job, archived_at=job.archived_at or at, record_due=True)


def restore(job: JobRecord) -> JobRecord:
    """Back into the usual lists."""
    require(job, "restore")
    return replace(job, archived_at=None, record_due=True)


def replay(job: JobRecord, *, at: datetime) -> JobRecord:
    """Have MLflow brought what it lacks of the job, out of the object store (see `tracking.py`)."""
    require(job, "replay", mend="its workers still tell MLflow: wait until it has ended")
    return replace(job, mlflow_due_until=at + MLFLOW_DUE, record_due=True)


def delete(job: JobRecord, *, at: datetime, purge: tuple[str, ...]) -> JobRecord:
    """Gone for users; `purge` names what is also to be removed from the object store."""
    require(job, "delete")
    return replace(job, deleted_at=at, purge_due=purge, record_due=True)
