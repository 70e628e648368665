"""What users had removed with their jobs. A loop of its own: ten thousand objects take minutes."""

from dataclasses import dataclass, replace

import structlog

from service.clock import Clock
from service.database.leases import Replica
from service.jobs.due import alone_if_due, each_due
from service.jobs.objects import JobObjects
from service.jobs.records import JobRecord
from service.jobs.store import JobStore
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
        await each_due(self.store.with_purge_due, self._purge, at_a_time=1, told_as="aftercare")

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
        await self.store.apply(job, replace(job, purge_due=()), at=self.clock())
        log.info("job.purged", job_id=job.id, parts=job.purge_due)
