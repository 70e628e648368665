"""What users had removed with their jobs. A loop of its own: ten thousand objects take minutes."""

from dataclasses import dataclass, replace
from typing import assert_never

import structlog

from service.clock import Clock
from service.database.leases import Replica
from service.jobs.due import alone_if_due, each_due
from service.jobs.objects import JobObjects
from service.jobs.records import JobRecord
from service.jobs.store import JobStore
from service.jobs.views import JobPart
from workers.contract.keys import JobKeys

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Purges:
    """Removes from the object store what is to be removed."""

    store: JobStore
    objects: JobObjects
    replica: Replica
    clock: Clock

    async def tick(self) -> bool | None:
        """One try at all that is due, by one replica at a time."""
        return await alone_if_due(self.replica, "purges", self._purge_due, self.store.with_purge_due)

    async def _purge_due(self) -> None:
        await each_due(self.store.with_purge_due, self._purge, at_a_time=1, told_as="purge")

    async def _purge(self, job: JobRecord) -> None:
        for part in job.purge_due:
            for folder in await self._folders(job, JobPart(part)):
                await self.objects.remove(folder)
        await self.store.apply(job, replace(job, purge_due=()), at=self.clock())
        log.info("job.purged", job_id=job.id, parts=job.purge_due)

    async def _folders(self, job: JobRecord, part: JobPart) -> list[str]:
        keys = JobKeys(job.id)
        match part:
            case JobPart.CHECKPOINTS:
                return [keys.checkpoints, keys.pieces]  # a training's pieces: weights of the web that it began from
            case JobPart.SAMPLES:
                return [keys.samples]
            case JobPart.RESULTS:
                return [keys.pieces, keys.results]
            case JobPart.LOGS:
                return [keys.attempt(attempt.number).logs for attempt in await self.store.attempts(job.id)]
            case JobPart.METRICS:
                return [keys.attempt(attempt.number).metrics for attempt in await self.store.attempts(job.id)]
            case JobPart.EXPORTS:
                return [keys.exports]
            case _:
                assert_never(part)
