"""The queue above Ray, which must not queue itself: it can neither order, nor explain, nor cancel what waits in it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from service.clock import Clock
from service.cluster import Cluster
from service.cluster.base import NO_RESOURCES, Capacity, ClusterUnreachable, Resources
from service.database.leases import LeaseLost, Replica
from service.errors import StorageUnavailable
from service.jobs.actions import Actions
from service.jobs.admission import admit_gangs
from service.jobs.lifecycle import EventType, Intent, JobState
from service.jobs.queueing import Admission, Holding, Waiting
from service.jobs.records import AttemptRecord, JobRecord, QueuedJob, asked
from service.jobs.store import JobStore

log = structlog.get_logger()

_MOST_OF_PROJECT = 200  # jobs of a project and an accelerator that may start, as many that cannot: considered at a time
_LEASE = "scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """Starts what has its turn, and has the lower classes make room."""

    store: JobStore
    cluster: Cluster
    clock: Clock
    actions: Actions
    replica: Replica
    stop_patience: timedelta
    max_active_jobs: int

    async def tick(self) -> bool | None:
        """One look at the queue; True if a job left it, None if another replica looks."""
        if not await self.store.queue(limit=1):
            return False
        if not await self.replica.hold(_LEASE):
            return None
        try:
            return await self._look()
        except LeaseLost:
            log.warning("scheduler.overtaken")  # what was decided here may no longer fit
            return None

    async def _look(self) -> bool | None:
        try:
            await self.cluster.probe()
            capacity = await self.cluster.capacity()
        except ClusterUnreachable as error:
            queued = await self._contenders(NO_RESOURCES)
            await self._explain({job.id: ("backend_down", str(error)) for job in queued}, queued)
            return False
        if not await self.replica.hold(_LEASE):  # an engine may take longer to answer than the lease lasts
            return None
        queued = await self._contenders(capacity.total)
        active = await self.store.active()
        admission = await self._admission(queued, active, capacity)
        moved = await self._carry_out(admission, {job.id: job for job in active})
        await self._explain(
            {job_id: (blocked.reason.value, blocked.message) for job_id, blocked in admission.blocked.items()}, queued
        )
        return moved

    async def _contenders(self, total: Resources) -> list[QueuedJob]:
        return await self.store.contenders(most=_MOST_OF_PROJECT, total=total)

    async def _admission(self, queued: list[QueuedJob], active: list[JobRecord], capacity: Capacity) -> Admission:
        return admit_gangs(
            [_waiting(job) for job in queued],
            [_holding(job) for job in active],
            capacity=capacity,
            quotas=await self.store.quotas(),
            max_active_jobs=self.max_active_jobs,
            now=self.clock(),
        )

    async def _carry_out(self, admission: Admission, active: Mapping[str, JobRecord]) -> bool:
        moved = False
        for job_id in admission.start:
            moved |= await self._start(job_id)
        for job_id in admission.preempt:
            await self._preempt(active[job_id])
        return moved

    async def _start(self, job_id: str) -> bool:
        job = await self.store.find(job_id)
        if job is None or job.state is not JobState.QUEUED:
            return False
        try:
            changed, attempt = await self.actions.next_attempt(job)
        except StorageUnavailable as error:
            log.warning("job.postponed", job_id=job_id, error=error.detail)
            return False
        return await self._write(job, changed, attempt, event="attempt_started")

    async def _preempt(self, job: JobRecord) -> None:
        changed = asked(job, Intent.PREEMPT, at=self.clock(), grace=self.stop_patience)
        await self._write(job, changed)

    async def _write(
        self,
        job: JobRecord,
        changed: JobRecord,
        attempt: AttemptRecord | None = None,
        *,
        event: EventType = "state_changed",
    ) -> bool:
        now = self.clock()
        async with self._leading() as connection:
            written = await self.store.change(connection, job, changed, events=[event], at=now, attempt=attempt)
        if written:
            self.actions.report_move(job, written, attempt)
        return written is not None

    async def _explain(self, why: Mapping[str, tuple[str, str]], queued: Sequence[QueuedJob]) -> None:
        """Say why jobs wait, where that is news."""
        said = {job.id: (job.reason, job.message) for job in queued}
        news = {job_id: reason for job_id, reason in why.items() if said.get(job_id) != reason}
        if news:
            async with self._leading() as connection:
                await self.store.explain(connection, news)

    @asynccontextmanager
    async def _leading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits only while this replica is the one that schedules. Raises LeaseLost."""
        async with self.store.writing() as connection:
            await self.replica.confirm(connection, _LEASE)
            yield connection


def _waiting(job: QueuedJob) -> Waiting:
    return Waiting(
        job_id=job.id,
        project=job.project,
        priority=job.priority,
        queued_at=job.queued_at or job.created_at,
        accelerator=job.accelerator,
        workers=job.workers,
        max_runtime_seconds=job.max_runtime_seconds,
    )


def _holding(job: JobRecord) -> Holding:
    started = job.started_at or job.created_at
    limit = job.max_runtime_seconds
    return Holding(
        job_id=job.id,
        project=job.project,
        priority=job.priority,
        accelerator=job.accelerator,
        workers=job.workers,
        started_at=started,
        placed=job.state is JobState.RUNNING and job.heard_at is not None,
        ends_by=started + timedelta(seconds=limit) if limit else None,
        leaving=job.intent is not None or job.state in {JobState.PAUSING, JobState.CANCELLING},
    )
