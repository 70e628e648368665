"""The loop that makes jobs happen: look, decide, act, write down.

It keeps nothing in memory that matters, so it can be ended at any line and started again: whatever was done but not
written down is found done, or done again harmlessly.
"""

import asyncio
from dataclasses import replace

import structlog

from service.clock import Clock
from service.cluster import Cluster
from service.cluster.base import ClusterUnreachable, Run
from service.errors import StorageUnavailable
from service.jobs.actions import Actions
from service.jobs.admission import admit
from service.jobs.lifecycle import Observed, Unreachable, decide
from service.jobs.objects import JobObjects
from service.jobs.records import AttemptRecord, JobRecord, backend_event, heard
from service.jobs.store import JobStore
from service.settings import Settings

log = structlog.get_logger()


class Reconciler:
    """One per database."""

    def __init__(
        self, *, store: JobStore, objects: JobObjects, cluster: Cluster, settings: Settings, clock: Clock
    ) -> None:
        self._store = store
        self._objects = objects
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._actions = Actions(store=store, objects=objects, cluster=cluster, settings=settings, clock=clock)

    async def tick(self) -> bool:
        """One look at every unfinished job, side by side; True if one moved and may want another look at once."""
        jobs = await self._store.unfinished()
        admitted = admit(jobs, max_active=self._settings.max_active_jobs)
        return any(await asyncio.gather(*(self._isolated(job, admitted=job.id in admitted) for job in jobs)))

    async def _isolated(self, job: JobRecord, *, admitted: bool) -> bool:
        try:
            return await self._reconcile(job, admitted=admitted)
        except StorageUnavailable as error:
            log.warning("job.postponed", job_id=job.id, error=error.detail)
            return False
        except Exception:
            log.exception("job.reconcile_failed", job_id=job.id)
            return False

    async def _reconcile(self, job: JobRecord, *, admitted: bool) -> bool:
        attempt = await self._store.attempt(job.id, job.attempt) if job.attempt else None
        observed = await self._observe(attempt, admitted=admitted)
        job = await self._note(job, attempt, observed)
        action = decide(
            job,
            attempt,
            observed,
            now=self._clock(),
            admitted=admitted,
            max_attempts=self._settings.max_attempts,
        )
        return await self._actions.perform(action, job, attempt)

    async def _observe(self, attempt: AttemptRecord | None, *, admitted: bool) -> Observed:
        # The engine first: what a driver wrote before the engine saw it end is then certain to be read.
        run: Run | Unreachable | None = None
        try:
            if attempt:
                run = await self._cluster.find(attempt.submission_id)
            elif admitted:
                await self._cluster.probe()
        except ClusterUnreachable as error:
            run = Unreachable(str(error))
        if attempt is None:
            return Observed(run=run)
        return Observed(
            run=run,
            outcome=await self._objects.outcome(attempt.job_id, attempt.number),
            progress=await self._objects.progress(attempt.job_id, attempt.number),
        )

    async def _note(self, job: JobRecord, attempt: AttemptRecord | None, observed: Observed) -> JobRecord:
        """Write down what was seen, so that it can be shown even when the place it came from is down."""
        last_word = observed.outcome or observed.progress
        changed = replace(
            job,
            progress=observed.progress or job.progress,
            mlflow_run_id=(last_word and last_word.mlflow_run_id) or job.mlflow_run_id,
        )
        if attempt and isinstance(observed.run, Unreachable):
            changed = heard(changed, reachable=False, message=observed.run.message, at=self._clock())
        elif attempt and (attempt.submitted_at or observed.run):  # before that, only a submission can tell
            changed = heard(changed, reachable=True, message=None, at=self._clock())
        await self._store.apply(job, changed, event=backend_event(job, changed), at=self._clock())
        return changed
