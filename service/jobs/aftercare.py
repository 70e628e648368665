"""What remains to be done beside running jobs, and is soon done. Repeated until it is, or is given up."""

import asyncio
from dataclasses import dataclass
from functools import partial

import structlog

from service.clock import Clock
from service.cluster import Cluster
from service.jobs.dataset import note_dataset
from service.jobs.due import each
from service.jobs.objects import JobObjects
from service.jobs.rebuild import record_of
from service.jobs.records import AttemptRecord, JobRecord
from service.jobs.store import JobStore
from workers.contract.keys import DRIVER_LOG, ENGINE_LOG

log = structlog.get_logger()
_AT_A_TIME = 8  # of each kind: however many are due, requests find the store free


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftercare:
    """Copies logs out of the engine, keeps the store's copy of jobs true, and notes which image set each is about."""

    store: JobStore
    objects: JobObjects
    cluster: Cluster
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
            each(logs, self._copy_log, at_a_time=_AT_A_TIME, told_as="aftercare"),
            each(records, self._save_record, at_a_time=_AT_A_TIME, told_as="aftercare"),
            each(datasets, note, at_a_time=_AT_A_TIME, told_as="aftercare"),
        )
        return False

    async def _copy_log(self, attempt: AttemptRecord) -> None:
        if attempt.log_due_until and self.clock() > attempt.log_due_until:
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

    async def _save_record(self, job: JobRecord) -> None:
        await self.objects.save_record(job.id, record_of(job, await self.store.attempts(job.id)))
        await self.store.record_saved(job)
