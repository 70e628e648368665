"""What Prometheus is told about jobs when it happens. A replica counts what it did itself, so sums over all are true.

Labels are closed lists: never names of jobs, users or projects. All their values are there from the start, since a
counter that begins at one was never seen to rise.
"""

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.cluster.base import Accelerator
from service.jobs.lifecycle import Intent, JobState
from service.jobs.reasons import CAUSES
from service.jobs.records import JobRecord
from workers.contract.records import TimeBreakdown

_SPANS = (1, 5, 15, 60, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600)
_NOBODY = "nobody"
_LOOKS = ("done", "postponed", "failed")
PurgeName = Literal["idempotency_keys", "uploads", "datasets", "pins", "deliveries"]


class Counters:
    """Counters and histograms of one control plane."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waited = Histogram(
            "cdm_queue_wait_seconds", "From the queue to an attempt", buckets=_SPANS, registry=registry
        )
        self._started = Histogram(
            "cdm_start_seconds", "From leaving the queue to training", buckets=_SPANS, registry=registry
        )
        self._ended = Counter(
            "cdm_attempts_ended",
            "Attempts that ended, by reason and whose fault it was; nobody's if they were asked to leave",
            ["reason", "blame"],
            registry=registry,
        )
        self._jobs = Counter("cdm_jobs_ended", "Jobs that ended, by state", ["state"], registry=registry)
        self._spent = Counter(
            "cdm_worker_seconds",
            "What trainings say the time of their workers went for; a worker holds one device",
            ["cause", "accelerator"],
            registry=registry,
        )
        self._looks = Counter(
            "cdm_job_looks", "Looks at active jobs: done, postponed by an outage, failed", ["result"], registry=registry
        )
        self._purges = Counter(
            "cdm_purges_failed", "Purges of what has served its time that failed", ["purge"], registry=registry
        )
        for reason, cause in CAUSES.items():
            self._ended.labels(reason, cause.blame)
        for state in JobState:
            if state.is_terminal:
                self._jobs.labels(state)
        for name in TimeBreakdown.model_fields:
            for accelerator in get_args(Accelerator):
                self._spent.labels(name, accelerator)
        for result in _LOOKS:
            self._looks.labels(result)
        for purge in get_args(PurgeName):
            self._purges.labels(purge)

    def moved(self, before: JobRecord, after: JobRecord, *, attempt_ended: bool) -> None:
        """A job went from one state to another."""
        leaves_queue = before.state is JobState.QUEUED and after.state is JobState.STARTING
        if leaves_queue and after.started_at and before.queued_at and not _has_run(before):
            self._waited.observe((after.started_at - before.queued_at).total_seconds())
        begins = before.state is JobState.STARTING and after.state is JobState.RUNNING
        if begins and before.reason is None and before.started_at:  # it came from the queue; others go on after a loss
            self._started.observe(((after.advanced_at or before.started_at) - before.started_at).total_seconds())
        if attempt_ended:
            reason = after.reason or after.state
            was_asked = before.intent not in {None, Intent.RESTART}
            blame = CAUSES[reason].blame if reason in CAUSES and not was_asked else _NOBODY
            self._ended.labels(reason, blame).inc()
        if after.state.is_terminal and not before.state.is_terminal:
            self._jobs.labels(after.state).inc()

    def heard(self, before: JobRecord, after: JobRecord) -> None:
        """A job has told more of its progress; what it told before its present attempt is of another account."""
        if after.progress is None or after.progress == before.progress:
            return
        told = before.progress.ledger if before.progress and before.heard_at else TimeBreakdown()
        for cause, seconds in after.progress.ledger:
            more = max(0.0, seconds - getattr(told, cause))
            self._spent.labels(cause, after.accelerator).inc(more * after.progress.num_workers)

    def looked(self, result: str) -> None:
        """Somebody looked at an active job: `done`, `postponed`, `failed`."""
        self._looks.labels(result).inc()

    def purge_failed(self, purge: PurgeName) -> None:
        """What had served its time could not be removed."""
        self._purges.labels(purge).inc()


def _has_run(job: JobRecord) -> bool:
    """Since it came into the queue: it made room for another, and kept its place."""
    return job.started_at is not None and job.queued_at is not None and job.started_at >= job.queued_at
