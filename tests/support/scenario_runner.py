"""Running a scenario: the user's requests, and the loops of the control plane, one after the other."""

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
from tests.support.plane import REQUESTER
from tests.support.scenarios import Scenario, Step
from tests.support.scripted_drivers import job_id
from workers.contract.presets import PRESETS

_FINISHED = "finished"
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
    def is_finished(self) -> bool:
        """Another replica has run the scenario to its end; whoever was frozen meanwhile is too late."""
        return _FINISHED in self._read()

    def _read(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []


@dataclass(frozen=True, slots=True)
class ScenarioRunner:
    """Plays the user, and runs the loops of the control plane one after the other."""

    scenario: Scenario
    parts: Parts
    ray: RayCluster
    store: JobStore  # of what is read without failpoints
    journal: Journal

    async def run(self) -> None:
        for number, step in enumerate(self.scenario.steps):
            if f"answered {number}" in self.journal:
                continue
            if f"tried {number}" not in self.journal:
                await self._until(partial(self._is_due, step), what=f"{step.verb} is due", after_each_loop=True)
                self.journal.note(f"tried {number}")
            await self._retry_until_answered(step)
            self.journal.note(f"answered {number}")
        await self._until(self._is_settled, what="all is settled")
        self.journal.note(_FINISHED)

    async def _retry_until_answered(self, step: Step) -> None:
        """Ask until there is an answer, as the SDK does. A conflict says that it was done and the answer got lost."""
        while not self.journal.is_finished:
            with suppress(StateConflict, JobGone):
                try:
                    await self._perform(step)
                except DatabaseUnavailable:
                    continue
            return

    async def _until(
        self, condition: Callable[[], Awaitable[bool]], *, what: str, after_each_loop: bool = False
    ) -> None:
        parts = self.parts
        loops = (
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
            for tick in loops:
                with suppress(DatabaseUnavailable):  # the next look may find it
                    await tick()
                if after_each_loop and (self.journal.is_finished or await condition()):
                    return
            if await condition():
                return
            await self._wait_for_locks()
            clock = parts.clock
            assert isinstance(clock, ManualClock)
            clock.advance(self.scenario.tick_seconds)
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

    async def _perform(self, step: Step) -> None:
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

    async def _is_settled(self) -> bool:
        """All have ended, nothing is left to be done for them, and the engine has none of them any more."""
        found = [await self.store.find(job_id(number)) for number in range(len(self.scenario.ends))]
        if not all(job and job.state.is_terminal and _has_nothing_due(job) for job in found):
            return False
        try:
            return not await self.store.with_log_due() and not await self.ray.list()
        except ClusterUnreachable:
            return False


def _has_nothing_due(job: JobRecord) -> bool:
    return not (job.record_due or job.purge_due or job.mlflow_due_until or job.dataset is None)


async def report(store: JobStore, num_jobs: int) -> list[dict[str, Any]]:
    found = []
    for number in range(num_jobs):
        job = await store.find(job_id(number))
        assert job
        found.append(
            {
                "job": asdict(job),
                "attempts": [asdict(attempt) for attempt in await store.attempts(job.id)],
                "events": [asdict(event) for event in await store.events(job.id, after=0, limit=1000)],
            }
        )
    return found


def elapsed_seconds(folder: Path) -> float:
    """The clock of the last process in this folder, in seconds from the start of the first."""
    times = [line.split()[1] for line in (folder / "journal").read_text().splitlines() if line.startswith("clock")]
    start: datetime = ManualClock().now
    return float(times[-1]) - start.timestamp() if times else 0.0
