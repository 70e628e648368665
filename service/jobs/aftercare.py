"""What remains to be done when an attempt is over. Never in the way of jobs; repeated until done or given up."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import structlog

from service.clock import Clock
from service.cluster import Cluster
from service.cluster.base import ClusterUnreachable
from service.errors import StorageUnavailable
from service.jobs.mlflow import Mlflow, MlflowError, RunStatus
from service.jobs.objects import JobObjects
from service.jobs.records import AttemptRecord, JobRecord
from service.jobs.store import JobStore
from service.jobs.views import JobState

log = structlog.get_logger()
_Thing = TypeVar("_Thing")

_MLFLOW_STATUS: dict[JobState, RunStatus] = {
    JobState.SUCCEEDED: "FINISHED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "KILLED",
}


class Aftercare:
    """Copies logs out of the engine and brings MLflow's runs to their end."""

    def __init__(self, *, store: JobStore, objects: JobObjects, cluster: Cluster, mlflow: Mlflow, clock: Clock) -> None:
        self._store = store
        self._objects = objects
        self._cluster = cluster
        self._mlflow = mlflow
        self._clock = clock

    async def tick(self) -> bool:
        """One try at everything that is due; False, since what failed had better wait."""
        attempts, jobs = await self._store.with_log_due(), await self._store.with_mlflow_due()
        await asyncio.gather(
            *(self._isolated(self._copy_log, attempt, job_id=attempt.job_id) for attempt in attempts),
            *(self._isolated(self._tend_run, job, job_id=job.id) for job in jobs),
        )
        return False

    async def _isolated(self, work: Callable[[_Thing], Awaitable[None]], thing: _Thing, *, job_id: str) -> None:
        try:
            await work(thing)
        except (ClusterUnreachable, MlflowError, StorageUnavailable) as error:
            log.info("aftercare.postponed", job_id=job_id, error=str(error))
        except Exception:
            log.exception("aftercare.failed", job_id=job_id)

    async def _copy_log(self, attempt: AttemptRecord) -> None:
        if self._is_late(attempt.log_due_until):
            log.warning("log.given_up", job_id=attempt.job_id, attempt=attempt.number)
            await self._store.log_done(attempt)
            return
        run = await self._cluster.find(attempt.submission_id)
        if run and not run.status.is_terminal:
            return  # its outcome is written, its last words are not
        if text := await self._cluster.logs(attempt.submission_id):
            await self._objects.save_log(attempt.job_id, attempt.number, text)
        await self._store.log_done(attempt)

    async def _tend_run(self, job: JobRecord) -> None:
        run_id = job.mlflow_run_id
        if run_id is None:
            return
        if self._is_late(job.mlflow_due_until):
            log.warning("mlflow.given_up", job_id=job.id, run_id=run_id)
            await self._write(job, replace(job, mlflow_due_until=None))
            return
        if job.mlflow_experiment_id is None:
            experiment_id = await self._mlflow.experiment_of(run_id)
            job = await self._write(job, replace(job, mlflow_experiment_id=experiment_id))
        if job.mlflow_due_until and job.ended_at:
            await self._mlflow.close_run(run_id, status=_MLFLOW_STATUS[job.state], at=job.ended_at)
            await self._write(job, replace(job, mlflow_due_until=None))

    async def _write(self, job: JobRecord, changed: JobRecord) -> JobRecord:
        await self._store.apply(job, changed, event=None, at=self._clock())
        return changed

    def _is_late(self, due_until: datetime | None) -> bool:
        return due_until is not None and self._clock() > due_until
