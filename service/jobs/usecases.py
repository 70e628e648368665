"""What clients can do with jobs."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog

from service.clock import Clock
from service.cluster import Cluster
from service.errors import (
    AttemptNotFound,
    InvalidRequest,
    JobNotFound,
    SampleNotFound,
    StateConflict,
)
from service.jobs.identifiers import new_job_id
from service.jobs.logs import read_log
from service.jobs.objects import JobObjects
from service.jobs.paths import path_problems
from service.jobs.records import JobRecord, moved
from service.jobs.store import JobStore
from service.jobs.views import JobCreate, JobState, Log

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The use cases. `wake` tells the reconciler that there is something to do."""

    store: JobStore
    objects: JobObjects
    cluster: Cluster
    clock: Clock
    wake: Callable[[], None]
    local_paths: bool

    async def submit(self, request: JobCreate) -> JobRecord:
        """Write a job down, to be run when its turn comes."""
        if self.local_paths:
            problems = await asyncio.to_thread(path_problems, request.spec)
            if problems:
                raise InvalidRequest("the job names files that cannot be used", problems=problems)
        now = self.clock()
        spec = request.spec.model_dump_json().encode()
        job = JobRecord(
            id=new_job_id(at=now),
            name=request.name,
            state=JobState.QUEUED,
            spec=spec.decode(),
            spec_sha256=hashlib.sha256(spec).hexdigest(),
            created_at=now,
        )
        await self.objects.save_spec(job.id, spec)
        await self.store.create(job)
        log.info("job.submitted", job_id=job.id)
        self.wake()
        return job

    async def cancel(self, job_id: str) -> JobRecord:
        """End a job that waits, or ask one that runs to stop; a job that is stopping already is left to it."""
        while True:  # again if the job moved between being read and being written
            job = await self.find(job_id)
            if job.state.is_terminal:
                raise StateConflict(f"{job_id} has ended already: {job.state}", current_state=job.state)
            if job.state is JobState.CANCELLING:
                return job
            now = self.clock()
            to = JobState.CANCELLED if job.state is JobState.QUEUED else JobState.CANCELLING
            changed = moved(job, to=to, at=now, reason=None, message=None)
            if await self.store.apply(job, changed, event="state_changed", at=now):
                log.info("job.cancel_requested", job_id=job_id, state=changed.state)
                self.wake()
                return changed

    async def find(self, job_id: str) -> JobRecord:
        job = await self.store.find(job_id)
        if job is None:
            raise JobNotFound(f"there is no job {job_id}")
        return job

    async def log(self, job_id: str, *, attempt: int | None, offset: int) -> Log:
        """A piece of the log of an attempt, by default of the latest."""
        job = await self.find(job_id)
        number = job.attempt if attempt is None else attempt
        if number == 0 and attempt is None:
            return Log(attempt=0, text="", next_offset=offset, complete=job.state.is_terminal)
        record = await self.store.attempt(job_id, number)
        if record is None:
            raise AttemptNotFound(f"{job_id} has no attempt {number}; its latest is {job.attempt}")
        return await read_log(record, offset=offset, objects=self.objects, cluster=self.cluster)

    async def sample(self, job_id: str, images_seen: int | Literal["latest"]) -> bytes:
        """A sample grid as PNG."""
        await self.find(job_id)
        if images_seen == "latest":
            drawn = await self.objects.samples(job_id)
            if not drawn:
                raise SampleNotFound(f"{job_id} has drawn no samples yet; they come with its checkpoints")
            images_seen = drawn[-1]
        png = await self.objects.sample(job_id, images_seen)
        if png is None:
            raise SampleNotFound(f"{job_id} has no sample grid at {images_seen} images")
        return png
