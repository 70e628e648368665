"""What Prometheus is told about jobs. Labels are closed lists: never names of jobs, users or projects."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from service.clock import Clock
from service.jobs.lifecycle import JobState
from service.jobs.loop import Loop
from service.jobs.records import JobRecord
from service.jobs.store import JobStore
from service.web.health import FindReadiness

_MINUTES = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class Measures:
    """What is counted when it happens."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waited = Histogram(
            "cdm_queue_wait_seconds", "From the queue to an attempt", buckets=_MINUTES, registry=registry
        )
        self._started = Histogram(
            "cdm_start_seconds", "From leaving the queue to training", buckets=_MINUTES, registry=registry
        )
        self._ended = Counter("cdm_attempts_ended", "Attempts that ended, by reason", ["reason"], registry=registry)
        self._jobs = Counter("cdm_jobs_ended", "Jobs that ended, by state", ["state"], registry=registry)

    def moved(self, before: JobRecord, after: JobRecord, *, attempt_ended: bool) -> None:
        """A job went from one state to another."""
        if before.state is JobState.QUEUED and after.started_at and before.queued_at:
            self._waited.observe((after.started_at - before.queued_at).total_seconds())
        if before.state is JobState.STARTING and after.state is JobState.RUNNING and before.started_at:
            self._started.observe(((after.advanced_at or before.started_at) - before.started_at).total_seconds())
        if attempt_ended:
            self._ended.labels(after.reason or after.state).inc()
        if after.state.is_terminal:
            self._jobs.labels(after.state).inc()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What is found out when it is asked for."""

    store: JobStore
    clock: Clock
    loops: Sequence[Loop]
    readiness: FindReadiness

    async def collect(self) -> list[Metric]:
        """Jobs by state, the longest wait, the speed of all that trains, the loops' pulse, and what answers."""
        counts, active, queued = await asyncio.gather(
            self.store.counts(), self.store.active(), self.store.queue(limit=1)
        )
        readiness = await self.readiness()
        up = {name: float(one.ready) for name, one in readiness.dependencies.items()}
        now = self.clock()
        waits = [(now - job.queued_at).total_seconds() for job in queued if job.queued_at]
        speed = sum(job.progress.images_per_second for job in active if job.progress)
        ages = {loop.name: loop.seconds_since_tick() for loop in self.loops}
        return [
            _gauge("cdm_jobs", "Jobs that have not ended, by state", "state", counts),
            GaugeMetricFamily("cdm_queue_head_wait_seconds", "Of the job whose turn is next", max(waits, default=0.0)),
            GaugeMetricFamily("cdm_images_per_second", "Of all jobs that train", speed),
            _gauge("cdm_loop_age_seconds", "Since each loop last came to its end", "loop", ages),
            _gauge("cdm_dependency_up", "Whether it answers", "dependency", up),
        ]


def _gauge(
    name: str, help_text: str, label: str, values: Mapping[JobState, int] | Mapping[str, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
