"""Retries, and what they may use up: a failure is counted against the budget of whoever is to blame for it. Pure.

Failures count in a row: a new checkpoint sets them back.
"""

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta

from service.jobs.lifecycle import Ending, Intent, Move, Verdict
from service.jobs.reasons import CAUSES, Blame
from service.jobs.records import AttemptRecord, JobRecord, checkpoint_images
from service.settings import Retries

_LONGEST_BACK_OFF_SECONDS = 600.0
_SPREAD = 0.5  # of the pause before an attempt
_DOUBLINGS = 64  # more would not fit into a float


def budgeted(verdict: Verdict, job: JobRecord, attempt: AttemptRecord, *, now: datetime, retries: Retries) -> Verdict:
    """Whether and when another attempt may follow."""
    if not CAUSES[verdict.reason].retryable:
        return verdict
    if job.intent is Intent.RESTART:  # whatever it said when it was made to leave
        verdict = replace(verdict, reason="stalled")
    elif job.intent:
        return replace(verdict, again=True)  # it was leaving anyway
    is_users = CAUSES[verdict.reason].blame is Blame.USER
    if is_users and signature(verdict.reason, verdict.message, job) == job.failure_signature:
        return replace(verdict, reason="poison", message=f"twice at the same point: {verdict.message}")
    of_platform, of_user = _failures_in_a_row(job, attempt)
    failures = of_user if is_users else of_platform
    if failures >= (retries.user if is_users else retries.platform):
        message = f"{failures + 1} attempts in a row left no new checkpoint; the last: {verdict.message}"
        return verdict if is_users else Verdict(ending=Ending.FAILED, reason="retries_exhausted", message=message)
    pause = min(retries.back_off_seconds * 2.0 ** min(failures, _DOUBLINGS), _LONGEST_BACK_OFF_SECONDS)
    pause *= 1.0 - _SPREAD * _share(attempt)
    return replace(verdict, again=True, retry_at=now + timedelta(seconds=pause))


def counted(job: JobRecord, attempt: AttemptRecord | None, move: Move) -> JobRecord:
    """The job with one more failure, that which the move is made for."""
    reason = move.reason or "stopped"
    of_platform, of_user = _failures_in_a_row(job, attempt)
    is_users = CAUSES[reason].blame is Blame.USER
    return replace(
        job,
        platform_failures=of_platform + (not is_users),
        user_failures=of_user + is_users,
        failure_signature=signature(reason, move.message or "", job),
    )


def signature(reason: str, message: str, job: JobRecord) -> str:
    """What makes two failures the same one: the error, and how far training had come."""
    seen = job.progress.images_seen if job.progress else 0
    return hashlib.sha256(f"{reason}\n{message}\n{seen}".encode()).hexdigest()


def _failures_in_a_row(job: JobRecord, attempt: AttemptRecord | None) -> tuple[int, int]:
    """Of the platform and of the user; none if the attempt left a new checkpoint."""
    if attempt is not None and checkpoint_images(job) > attempt.from_images:
        return 0, 0
    return job.platform_failures, job.user_failures


def _share(attempt: AttemptRecord) -> float:
    """From 0 to 1, another one for each attempt: what was lost together does not come again at one moment."""
    return hashlib.sha256(attempt.submission_id.encode()).digest()[0] / 255
