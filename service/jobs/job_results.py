"""What jobs leave: attempts and their logs, sample grids, checkpoints."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from service.cluster import Cluster
from service.errors import AttemptNotFound, CheckpointNotFound, SampleNotFound, StorageUnavailable
from service.jobs.logs import LogReader, log_sources, read_tail
from service.jobs.lookup import JobLookup
from service.jobs.objects import JobObjects
from service.jobs.records import AttemptRecord, JobRecord
from service.jobs.result_views import Log, LogSource
from workers.contract import records as contract


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResults:
    """Asked of the database, the object store and, while an attempt lasts, the engine."""

    store: JobLookup
    objects: JobObjects
    cluster: Cluster

    async def attempt(self, job: JobRecord, number: int | None) -> AttemptRecord:
        """An attempt of a job, by default the latest."""
        found = await self.store.attempt(job.id, job.attempt if number is None else number)
        if found is None:
            raise AttemptNotFound(f"{job.id} has no attempt {number}; its latest is {job.attempt}")
        return found

    async def attempts(self, job: JobRecord) -> list[tuple[AttemptRecord, contract.Progress | None]]:
        """All of a job, oldest first, and the last word of each; None while the object store is away."""
        found = await self.store.attempts(job.id)
        return list(zip(found, await asyncio.gather(*map(self._last_word, found)), strict=True))

    async def sample(self, job_id: str, images_seen: int | Literal["latest"]) -> bytes:
        """A sample grid as PNG."""
        if images_seen == "latest":
            drawn = await self.objects.samples(job_id)
            if not drawn:
                raise SampleNotFound(f"{job_id} has drawn no samples yet; they come with its checkpoints")
            images_seen = drawn[-1]
        png = await self.objects.sample(job_id, images_seen)
        if png is None:
            raise SampleNotFound(f"{job_id} has no sample grid at {images_seen} images")
        return png

    async def checkpoint(
        self, job_id: str, images_seen: int | Literal["latest"], attempt: int | None
    ) -> tuple[str, contract.CheckpointManifest]:
        """Folder and manifest of a committed checkpoint; by default that of the last attempt that left one there."""
        wanted = None if images_seen == "latest" else images_seen
        found = await self.objects.checkpoint(job_id, images_seen=wanted, attempt=attempt)
        if found is None:
            raise no_such_checkpoint(job_id, images_seen, attempt)
        return found

    def log_reader(self) -> LogReader:
        """For one log, piece after piece."""
        return LogReader(self.objects, self.cluster)

    async def log_tail(self, attempt: AttemptRecord, *, source: str, lines: int) -> Log:
        """The last lines of a log, at most a megabyte of them."""
        return await read_tail(attempt, source=source, lines=lines, objects=self.objects, cluster=self.cluster)

    async def log_sources(self, attempt: AttemptRecord) -> tuple[LogSource, ...]:
        """Which logs an attempt has."""
        return await log_sources(attempt, objects=self.objects)

    async def _last_word(self, attempt: AttemptRecord) -> contract.Progress | None:
        try:
            return await self.objects.progress(attempt.job_id, attempt.number)
        except StorageUnavailable:
            return None


def no_such_checkpoint(job_id: str, images_seen: int | Literal["latest"], attempt: int | None) -> CheckpointNotFound:
    """Also of one that was there a moment ago: a training removes old ones (`cadence.keep_last`)."""
    of_attempt = "" if attempt is None else f" of attempt {attempt}"
    if images_seen == "latest":
        return CheckpointNotFound(f"{job_id} has no checkpoint{of_attempt} yet; they come as it trains")
    where = f"no checkpoint{of_attempt} at {images_seen} images, or none any more"
    return CheckpointNotFound(f"{job_id} has {where}: its list says which it keeps")
