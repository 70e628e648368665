"""Telling a story: the user's part in it, and the wheels of the control plane turned one after the other."""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import select

from service.cluster.base import ClusterUnreachable
from service.cluster.ray import RayCluster
from service.database.tables import jobs
from service.errors import DatabaseUnavailable, JobGone, StateConflict
from service.jobs.records import JobRecord
from service.jobs.store import JobStore
from service.jobs.views import CancelRequest, JobCreate
from service.parts import Parts
from tests.support.clock import ManualClock
from tests.support.drivers import job_id
from tests.support.plane import REQUESTER
from tests.support.stories import Step, Story
from workers.contract.presets import PRESETS

_OVER = "over"
_ROUNDS = 150


class Journal:
    """What the user tried and got an answer to, and the time; kept by the kernel, whatever happens to the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = self._read()
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def note(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())

    def __contains__(self, line: str) -> bool:
        """Whether an earlier process wrote it."""
        return line in self._lines

    @property
    def is_over(self) -> bool:
        """Another replica has told the story to its end; whoever was frozen meanwhile is too late."""
        return _OVER in self._read()

    def _read(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []


@dataclass(frozen=True, slots=True)
class Teller:
    """Plays the user, and turns the wheels of the control plane one after the other."""

    story: Story
    parts: Parts
    ray: RayCluster
    store: JobStore  # of what is read without points
    journal: Journal

    async def tell(self) -> None:
        for number, step in enumerate(self.story.steps):
            if f"answered {number}" in self.journal:
                continue
            if f"tried {number}" not in self.journal:
                await self._until(partial(self._is_due, step), what=f"{step.verb} is due", closely=True)
                self.journal.note(f"tried {number}")
            await self._insist(step)
            self.journal.note(f"answered {number}")
        await self._until(self._is_at_rest, what="all is at rest")
        self.journal.note(_OVER)

    async def _insist(self, step: Step) -> None:
        """Ask until there is an answer, as the SDK does. A conflict says that it was done and the answer got lost."""
        while not self.journal.is_over:
            with suppress(StateConflict, JobGone):
                try:
                    await self._do(step)
                except DatabaseUnavailable:
                    continue
            return

    async def _until(self, condition: Callable[[], Awaitable[bool]], *, what: str, closely: bool = False) -> None:
        parts = self.parts
        wheels = (
            parts.scheduler.tick,
            parts.reconciler.tick,
            parts.aftercare.tick,
            parts.purges.tick,
            parts.tracking.tick,
            parts.tracking.find_experiments,
            parts.sweep.tick,
        )
        if await condition():
            return
        for _ in range(_ROUNDS):
            for turn in wheels:
                with suppress(DatabaseUnavailable):  # the next look may find it
                    await turn()
                if closely and (self.journal.is_over or await condition()):
                    return
            if await condition():
                return
            await self._wait_for_locks()
            clock = parts.clock
            assert isinstance(clock, ManualClock)
            clock.advance(self.story.pace_seconds)
            self.journal.note(f"clock {clock.now.timestamp()}")
        raise AssertionError(f"stuck: never {what}")

    async def _wait_for_locks(self) -> None:
        """Until nobody holds a job: of a replica that froze in a transaction Postgres takes the rows after seconds.

        Those are real ones, in which hundreds of rounds would pass.
        """
        with suppress(DatabaseUnavailable):
            async with self.parts.database.reading() as connection:
                await connection.execute(select(jobs.c.id).with_for_update())

    async def _is_due(self, step: Step) -> bool:
        if step.when is None:
            return True
        job = await self.store.find(job_id(0))
        if job is None or step.when != "submitted":
            return job is not None and job.state == step.when
        attempt = await self.store.attempt(job.id, job.attempt)
        return attempt is not None and attempt.submitted_at is not None

    async def _do(self, step: Step) -> None:
        service, of = self.parts.jobs, job_id(step.job)
        match step.verb:
            case "submit":
                request = JobCreate.model_validate({"spec": PRESETS["smoke"], **step.options})
                await self.parts.submissions.submit(request, requester=REQUESTER, job_id=of)
            case "cancel":
                await service.cancel(of, CancelRequest(**step.options), requester=REQUESTER)
            case "delete":
                await service.delete(of, requester=REQUESTER, **step.options)
            case "pause":
                await service.pause(of, requester=REQUESTER)
            case "resume":
                await service.resume(of, requester=REQUESTER)
            case "retry":
                await service.retry(of, requester=REQUESTER)
            case _:
                raise LookupError(step.verb)

    async def _is_at_rest(self) -> bool:
        """All have ended, nothing is left to be done for them, and the engine has none of them any more."""
        found = [await self.store.find(job_id(number)) for number in range(len(self.story.ends))]
        if not all(job and job.state.is_terminal and _is_done_with(job) for job in found):
            return False
        try:
            return not await self.store.with_log_due() and not await self.ray.list()
        except ClusterUnreachable:
            return False


def _is_done_with(job: JobRecord) -> bool:
    return not (job.record_due or job.purge_due or job.mlflow_due_until or job.dataset is None)


async def report(store: JobStore, num_jobs: int) -> list[dict[str, Any]]:
    told = []
    for number in range(num_jobs):
        job = await store.find(job_id(number))
        assert job
        told.append(
            {
                "job": asdict(job),
                "attempts": [asdict(attempt) for attempt in await store.attempts(job.id)],
                "events": [asdict(event) for event in await store.events(job.id, after=0, limit=1000)],
            }
        )
    return told


def clock_of(folder: Path) -> float:
    """What the last process in this folder had for a time, in seconds from the first one's start."""
    times = [line.split()[1] for line in (folder / "journal").read_text().splitlines() if line.startswith("clock")]
    start: datetime = ManualClock().now
    return float(times[-1]) - start.timestamp() if times else 0.0
