"""What Prometheus is told about jobs when it asks. All replicas say the same of the database: it must not be added up.

Labels are closed lists: never names of jobs, users or projects.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import get_args

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from service.clock import Clock
from service.cluster.base import Accelerator
from service.database import Database
from service.jobs import job_counts
from service.jobs.evidence import is_silent
from service.jobs.job_counts import Group
from service.jobs.lifecycle import JobState
from service.jobs.lookup import UNFINISHED, JobLookup
from service.jobs.loop import Loop
from service.jobs.queueing import BlockedReason
from service.jobs.records import CONDITIONS, JobRecord
from service.jobs.views import Kind
from service.web.health import FindReadiness

_Values = Mapping[tuple[str, ...], float]  # by labels

_KINDS: tuple[str, ...] = get_args(Kind)
_ACCELERATORS: tuple[str, ...] = get_args(Accelerator)
_OF_DRIVERS = ("Heartbeating", "Progressing")  # what a job that waits for its next driver does not renew
_BLOCKED = (*(reason.value for reason in BlockedReason), "backend_down", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaGauges:
    """This replica's loops, and what it reaches. Asks the database nothing of jobs: it is seen when that is away."""

    loops: Sequence[Loop]
    readiness: FindReadiness

    async def collect(self) -> list[Metric]:
        readiness = await self.readiness()
        ages: _Values = {(loop.name,): loop.seconds_since_tick() for loop in self.loops}
        up: _Values = {(name,): float(one.ready) for name, one in readiness.dependencies.items()}
        return [
            gauge("cdm_loop_age_seconds", "Since each loop of this replica last came to its end", ["loop"], ages),
            gauge("cdm_dependency_up", "Whether this replica reaches it", ["dependency"], up),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobGauges:
    """Jobs that have not ended, as the database has them."""

    database: Database
    store: JobLookup
    clock: Clock

    async def collect(self) -> list[Metric]:
        found = await job_counts.groups(self.database)
        head = await job_counts.head_since(self.database)
        active = await self.store.active()
        now = self.clock()
        heads = [head] if head else []
        queued = [group for group in found if group.state is JobState.QUEUED]
        waiting = [group.since for group in queued if group.since and group.reason != BlockedReason.EXCEEDS_CLUSTER]
        trains = [job for job in active if job.state is JobState.RUNNING and not is_silent(job, now=now)]
        return [
            gauge("cdm_jobs", "Jobs that have not ended", ["state", "kind"], _jobs(found)),
            gauge("cdm_jobs_blocked", "Jobs in the queue, by why they wait", ["reason"], _blocked(found)),
            gauge("cdm_jobs_unwell", "Active jobs of which this does not hold", ["condition"], _unwell(active)),
            gauge("cdm_workers", "Of jobs in the queue, and of active ones", ["accelerator", "state"], _workers(found)),
            GaugeMetricFamily("cdm_queue_head_wait_seconds", "Of the job whose turn is next", _longest(heads, now=now)),
            GaugeMetricFamily(
                "cdm_queue_longest_wait_seconds",
                "Of the job that waits longest and does not exceed the cluster",
                _longest(waiting, now=now),
            ),
            gauge("cdm_images_per_second", "Of all jobs that run and are heard of", ["kind"], _speeds(trains)),
            GaugeMetricFamily(
                "cdm_checkpoint_age_seconds",
                "Most work that a running training would lose if it died now",
                max((unsaved_seconds(job, now=now) for job in trains), default=0.0),
            ),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogGauges:
    """What remains to be done beside running jobs."""

    database: Database

    async def collect(self) -> list[Metric]:
        found: _Values = {(work,): number for work, number in (await job_counts.backlogs(self.database)).items()}
        return [gauge("cdm_backlog", f"What waits to be done, counted up to {job_counts.MOST}", ["work"], found)]


def unsaved_seconds(job: JobRecord, *, now: datetime) -> float:
    """How long a training has worked since its last checkpoint, or since it left the queue."""
    progress = job.progress
    if job.kind != "train" or progress is None or progress.images_per_second <= 0 or job.started_at is None:
        return 0.0
    images = progress.images_seen - (progress.last_checkpoint_images or 0)
    return min(images / progress.images_per_second, (now - job.started_at).total_seconds())


def gauge(name: str, help_text: str, labels: Sequence[str], values: _Values) -> GaugeMetricFamily:
    """One family, with a value for each combination of labels."""
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _longest(since: Iterable[datetime], *, now: datetime) -> float:
    return max(((now - one).total_seconds() for one in since), default=0.0)


def _jobs(found: Iterable[Group]) -> _Values:
    numbers = _zeros(UNFINISHED, _KINDS)
    for group in found:
        numbers[(group.state, group.kind)] += group.jobs
    return numbers


def _blocked(found: Iterable[Group]) -> _Values:
    numbers = _zeros(_BLOCKED)
    for group in found:
        if group.state is JobState.QUEUED:
            numbers[(group.reason if group.reason in _BLOCKED else "other",)] += group.jobs
    return numbers


def _workers(found: Iterable[Group]) -> _Values:
    numbers = _zeros(_ACCELERATORS, ("queued", "active"))
    for group in found:
        if group.state is not JobState.PAUSED:
            place = "queued" if group.state is JobState.QUEUED else "active"
            numbers[(group.accelerator, place)] += group.workers
    return numbers


def _unwell(active: Iterable[JobRecord]) -> _Values:
    numbers = _zeros(CONDITIONS)
    for job in active:
        for kind, condition in job.conditions.items():
            if kind not in _OF_DRIVERS or _has_driver(job):
                numbers[(kind,)] += not condition.status
    return numbers


def _has_driver(job: JobRecord) -> bool:
    """One that was heard of in the present attempt; where a worker was lost, none may be left."""
    return job.state is JobState.RUNNING or (job.state is JobState.STARTING and job.heard_at is not None)


def _speeds(running: Iterable[JobRecord]) -> _Values:
    speeds = _zeros(_KINDS)
    for job in running:
        speeds[(job.kind,)] += job.progress.images_per_second if job.progress else 0.0
    return speeds


def _zeros(*labels: Sequence[str]) -> defaultdict[tuple[str, ...], float]:
    """All combinations, so that what is not there now is zero and not unknown."""
    return defaultdict(float, dict.fromkeys(product(*labels), 0.0))
