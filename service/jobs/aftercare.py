"""What remains to be done beside running jobs. Never in their way; repeated until done or given up."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeVar

import structlog

from service.clock import Clock
from service.cluster import Cluster
from service.cluster.base import ClusterUnreachable
from service.database.leases import Replica
from service.errors import MlflowUnavailable, StorageUnavailable
from service.jobs.dataset import note_dataset
from service.jobs.lifecycle import JobState
from service.jobs.objects import JobObjects
from service.jobs.rebuild import record_of
from service.jobs.records import AttemptRecord, JobRecord
from service.jobs.replay import complete_run
from service.jobs.store import JobStore
from service.mlflow import Mlflow, RunStatus
from workers.contract.keys import DRIVER_LOG, ENGINE_LOG, JobKeys
from workers.contract.tracking import description, environment

log = structlog.get_logger()
_Thing = TypeVar("_Thing", AttemptRecord, JobRecord)

_AT_A_TIME = 8  # of each kind: however many are due, requests find the store free
_RUNS_AT_A_TIME = 2  # each holds all steps of a job in memory, and reads eight objects of the store at a time
_MLFLOW_STATUS: dict[JobState, RunStatus] = {
    JobState.SUCCEEDED: "FINISHED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "KILLED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftercare:
    """Copies logs out of the engine, brings MLflow's runs to their end, keeps the store's copy of jobs true, and notes
    which image set each of them is about."""

    store: JobStore
    objects: JobObjects
    cluster: Cluster
    mlflow: Mlflow
    replica: Replica
    clock: Clock

    async def tick(self) -> bool:
        """One try at everything that is soon done; False, since what failed had better wait."""
        logs, records, datasets = (  # all known before any is begun: the database may fail at any of them
            await self.store.with_log_due(),
            await self.store.with_record_due(),
            await self.store.with_dataset_due(),
        )
        note = partial(note_dataset, store=self.store, objects=self.objects, clock=self.clock)
        await asyncio.gather(
            self._each(self._copy_log, logs),
            self._each(self._save_record, records),
            self._each(note, datasets),
        )
        return False

    async def purge(self) -> bool | None:
        """One try at all that is to be removed, by one replica at a time.

        A loop of its own: ten thousand objects take minutes.
        """
        if await self.store.with_purge_due(limit=1):
            return False if await self.replica.alone("purges", self._purge_due) else None
        return False

    async def tend_runs(self) -> bool | None:
        """One try at all that MLflow has to be told, by one replica at a time: two would make two runs of a job.

        A loop of its own: the curves of a long job take minutes.
        """
        if await self.store.with_mlflow_due(limit=1):
            return False if await self.replica.alone("tracking", self._tend_due) else None
        return False

    async def find_experiments(self) -> bool:
        """One question for each active job whose page in MLflow nobody can name yet.

        A loop of its own: who watches a job does not wait for the curves of others.
        """
        await self._each(self._find_experiment, await self.store.with_experiment_due())
        return False

    async def _tend_due(self) -> None:
        await self._all(self.store.with_mlflow_due, self._complete_run, at_a_time=_RUNS_AT_A_TIME)

    async def _purge_due(self) -> None:
        await self._all(self.store.with_purge_due, self._purge, at_a_time=1)

    async def _all(
        self,
        found: Callable[..., Awaitable[list[JobRecord]]],
        work: Callable[[JobRecord], Awaitable[None]],
        *,
        at_a_time: int,
    ) -> None:
        """All that are due, some of them in memory at a time; each is tried once."""
        after = ""
        while some := await found(after=after):
            await self._each(work, some, at_a_time=at_a_time)
            after = some[-1].id

    async def _each(
        self, work: Callable[[_Thing], Awaitable[None]], things: Iterable[_Thing], *, at_a_time: int = _AT_A_TIME
    ) -> None:
        """So many side by side; what fails is told, and keeps no other from its turn."""
        places = asyncio.Semaphore(at_a_time)
        await asyncio.gather(*(self._isolated(work, thing, places) for thing in things))

    async def _isolated(
        self, work: Callable[[_Thing], Awaitable[None]], thing: _Thing, places: asyncio.Semaphore
    ) -> None:
        job_id = thing.job_id if isinstance(thing, AttemptRecord) else thing.id
        try:
            async with places:
                await work(thing)
        except (ClusterUnreachable, MlflowUnavailable, StorageUnavailable) as error:
            log.info("aftercare.postponed", job_id=job_id, error=str(error))
        except Exception:
            log.exception("aftercare.failed", job_id=job_id)

    async def _copy_log(self, attempt: AttemptRecord) -> None:
        if self._is_late(attempt.log_due_until):
            log.warning("log.given_up", job_id=attempt.job_id, attempt=attempt.number)
            await self.store.update_attempt(attempt, log_due_until=None)
            return
        run = await self.cluster.find(attempt.submission_id)
        if run and not run.status.is_terminal:
            return  # its outcome is written, its last words are not
        if text := await self.cluster.logs(attempt.submission_id):
            await self.objects.save_log_chunk(attempt.job_id, attempt.number, ENGINE_LOG, text.encode())
            if not await self.objects.log_starts(attempt.job_id, attempt.number, DRIVER_LOG):  # it died too early
                await self.objects.save_log_chunk(attempt.job_id, attempt.number, DRIVER_LOG, text.encode())
        await self.store.update_attempt(attempt, log_due_until=None)

    async def _find_experiment(self, job: JobRecord) -> None:
        experiment_id = await self.mlflow.experiment_of(job.mlflow_run_id or "")
        await self._write(job, replace(job, mlflow_experiment_id=experiment_id))

    async def _complete_run(self, job: JobRecord) -> None:
        if self._is_late(job.mlflow_due_until):
            log.warning("mlflow.given_up", job_id=job.id, run_id=job.mlflow_run_id)
            await self._write(job, replace(job, mlflow_due_until=None))
            return
        changed = replace(job, mlflow_due_until=None)
        if (run_id := await complete_run(job, self.objects, self.mlflow)) != job.mlflow_run_id:
            changed = replace(changed, mlflow_run_id=run_id, mlflow_experiment_id=None, record_due=True)
        if run_id and changed.mlflow_experiment_id is None:
            changed = replace(changed, mlflow_experiment_id=await self.mlflow.experiment_of(run_id))
        if run_id and job.ended_at:
            await self.mlflow.close_run(run_id, status=_MLFLOW_STATUS[job.state], at=job.ended_at)
            await self.mlflow.describe_run(run_id, _tags(job))
        await self._write(job, changed)

    async def _save_record(self, job: JobRecord) -> None:
        await self.objects.save_record(job.id, record_of(job, await self.store.attempts(job.id)))
        await self.store.record_saved(job)

    async def _purge(self, job: JobRecord) -> None:
        keys = JobKeys(job.id)
        for part in job.purge_due:
            match part:
                case "checkpoints":
                    await self.objects.remove(keys.checkpoints)
                    await self.objects.remove(keys.pieces)  # a training's: weights of the web that it began from
                case "samples":
                    await self.objects.remove(keys.samples)
                case "results":
                    await self.objects.remove(keys.pieces)
                    await self.objects.remove(keys.results)
                case "logs":
                    for attempt in await self.store.attempts(job.id):
                        await self.objects.remove(keys.attempt(attempt.number).logs)
                case "metrics":
                    for attempt in await self.store.attempts(job.id):
                        await self.objects.remove(keys.attempt(attempt.number).metrics)
                case "exports":
                    await self.objects.remove(keys.exports)
                case _:
                    raise LookupError(f"nobody knows how to purge {part}")
        await self._write(job, replace(job, purge_due=()))
        log.info("job.purged", job_id=job.id, parts=job.purge_due)

    async def _write(self, job: JobRecord, changed: JobRecord) -> None:
        await self.store.apply(job, changed, at=self.clock())

    def _is_late(self, due_until: datetime | None) -> bool:
        return due_until is not None and self.clock() > due_until


def _tags(job: JobRecord) -> dict[str, str]:
    """All that its run is to have: one that was made anew has not what workers told."""
    known = description(
        job.project, job.labels, user=job.owner_name, parent=job.parent_job_id, control=job.control_job_id
    )
    return known | environment(job.progress.versions if job.progress else {})
