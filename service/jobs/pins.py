"""Pins on checkpoints (see `workers/training/retention.py`) whose jobs will not read them any more.

A job that is done takes its own away. Here go those of jobs that never come to that: cancelled, deleted, or refused
after they had pinned. One that failed keeps its pin for a retry, until it is deleted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from service.errors import CheckpointNotFound
from service.jobs.lookup import JobLookup
from service.jobs.objects import JobObjects
from workers.contract.records import CheckpointRef

log = structlog.get_logger()

_GRACE = timedelta(minutes=10)  # who pins, at a submission or a retry, has said so in the database by then
_GRACE_OF_UNKNOWN = timedelta(days=1)  # an older database may have been put back, and the job comes back by `rebuild`


async def pin(objects: JobObjects, source: CheckpointRef, *, at: datetime, job_id: str | None = None) -> None:
    """Keep a checkpoint for a job that is to read it, or for whoever forks it.

    Raises:
        CheckpointNotFound: its training has removed it.
    """
    if not await objects.pin(source, at=at, job_id=job_id):
        where = f"no checkpoint at {source.images_seen} images any more"
        raise CheckpointNotFound(f"{source.job_id} has {where}: take a newer one, if there is one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """Of trainings that run: others remove no checkpoints, pinned or not."""

    store: JobLookup
    objects: JobObjects

    async def purge(self, *, now: datetime) -> int:
        """Take away what serves nobody; how many pins that were."""
        removed = 0
        for job in await self.store.active():
            if job.kind == "train":
                removed += await self._purge(job.id, now=now)
        return removed

    async def _purge(self, job_id: str, *, now: datetime) -> int:
        pins = await self.objects.pins(job_id)
        readers = {*await self.store.readers([*pins.values()])}
        unread = {pin: holder for pin, holder in pins.items() if holder not in readers}
        removed = sum([await self._unpin(pin, holder, now=now) for pin, holder in unread.items()])
        if removed:
            log.info("checkpoints.unpinned", job_id=job_id, num_pins=removed)
        return removed

    async def _unpin(self, pin: str, holder: str, *, now: datetime) -> bool:
        grace = _GRACE if await self.store.find(holder) else _GRACE_OF_UNKNOWN
        return await self.objects.unpin(pin, grace=grace, now=now)
