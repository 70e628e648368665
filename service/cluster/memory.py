"""An engine in this process, for tests of whoever builds on the service: attempts are coroutines."""

import asyncio
import secrets
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from service.cluster.base import (
    NO_RESOURCES,
    AlreadySubmitted,
    Capacity,
    ClusterUnreachable,
    Resources,
    Run,
    RunStatus,
    Submission,
    SubmissionRefused,
)


@dataclass(slots=True)
class Process:
    """What a driver sees of its own submission. What it `holds` is not free for others until it ends."""

    submission: Submission
    holds: Resources = NO_RESOURCES
    stop_requested: asyncio.Event = field(default_factory=asyncio.Event)
    printed: list[str] = field(default_factory=list)

    def print(self, text: str) -> None:
        self.printed.append(text + "\n")


class DriverLost(Exception):
    """Raised by a driver to end as if its supervisor had died; the argument is Ray's error type."""


def _new_session() -> str:
    return f"session_{secrets.token_hex(8)}"


_MAX_BYTES = 1 << 20  # as Ray's agent has it

Driver = Callable[[Process], Awaitable[int]]


async def wait_for_stop(process: Process) -> int:
    """A driver that does nothing until it is asked to leave."""
    await process.stop_requested.wait()
    return 0


class MemoryCluster:
    """Runs `driver` for each submission; its result is the exit code.

    Set `reachable` to False to cut the line; set `num_slots` to make further submissions wait; set `total` to
    what `capacity` shall tell; `forget` everything to play a head that was restarted.
    """

    _named: ClassVar[dict[str, "MemoryCluster"]] = {}

    def __init__(self, driver: Driver = wait_for_stop, *, num_slots: int = 1000) -> None:
        self.driver = driver
        self.num_slots = num_slots
        self.total = Resources(cpus=1000.0, gpus=1000.0)
        self.reachable = True
        self._session = _new_session()
        self._runs: dict[str, Run] = {}
        self._submissions: dict[str, Submission] = {}
        self._processes: dict[str, Process] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @classmethod
    def named(cls, name: str) -> "MemoryCluster":
        return cls._named.setdefault(name, cls())

    @property
    def submission_ids(self) -> list[str]:
        """All submissions there were, in order, also those that were deleted since."""
        return list(self._submissions)

    def submission(self, submission_id: str) -> Submission:
        """What was handed in under that id; raises KeyError if nothing was."""
        return self._submissions[submission_id]

    async def session(self) -> str:
        await self.probe()
        return self._session

    async def submit(self, submission: Submission) -> None:
        await self.probe()
        if not all(isinstance(value, str) for value in submission.metadata.values()):
            raise SubmissionRefused("metadata values must be strings")
        if len(submission.entrypoint) > _MAX_BYTES:
            raise SubmissionRefused("too large")
        if submission.submission_id in self._runs:
            raise AlreadySubmitted(submission.submission_id)
        self._submissions[submission.submission_id] = submission
        self._processes[submission.submission_id] = Process(submission)
        self._runs[submission.submission_id] = Run(
            submission_id=submission.submission_id,
            status=RunStatus.PENDING,
            error_type=None,
            message=None,
            metadata=dict(submission.metadata),
        )
        self._start_pending()

    async def find(self, submission_id: str) -> Run | None:
        await self.probe()
        self._start_pending()  # there may be more slots by now
        return self._runs.get(submission_id)

    async def list(self) -> list[Run]:
        await self.probe()
        self._start_pending()
        return [*self._runs.values()]

    async def stop(self, submission_id: str) -> None:
        run = await self.find(submission_id)
        if run and run.status is RunStatus.RUNNING:
            self._processes[submission_id].stop_requested.set()

    async def delete(self, submission_id: str) -> None:
        run = await self.find(submission_id)
        if run and run.status.is_terminal:
            del self._runs[submission_id], self._processes[submission_id], self._tasks[submission_id]

    async def logs(self, submission_id: str) -> str:
        await self.probe()
        process = self._processes.get(submission_id)
        return "".join(process.printed) if process else ""

    async def capacity(self) -> Capacity:
        await self.probe()
        free = self.total
        for submission_id, run in self._runs.items():
            if not run.status.is_terminal:
                free = free.without(self._processes[submission_id].holds)
        return Capacity(total=self.total, free=free)

    async def probe(self) -> None:
        await asyncio.sleep(0)  # as any call over a network would, let others run
        if not self.reachable:
            raise ClusterUnreachable("the line is cut")

    async def close(self) -> None:
        """Nothing to let go of: submissions run on."""

    async def forget(self) -> None:
        """Lose every submission, running or not, and all memory of it."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._submissions.clear()
        self._runs.clear()
        self._processes.clear()
        self._tasks.clear()
        self._session = _new_session()

    def _start_pending(self) -> None:
        for submission_id, run in self._runs.items():
            running = sum(other.status is RunStatus.RUNNING for other in self._runs.values())
            if run.status is RunStatus.PENDING and running < self.num_slots:
                self._runs[submission_id] = replace(run, status=RunStatus.RUNNING)
                self._tasks[submission_id] = asyncio.create_task(self._execute(self._processes[submission_id]))

    async def _execute(self, process: Process) -> None:
        error_type, message = None, None
        try:
            exit_code = await self.driver(process)
        except DriverLost as lost:
            exit_code, error_type, message = 1, str(lost), "the supervisor is gone"
        except Exception as error:  # noqa: BLE001 (whatever a driver raises ends only the driver)
            process.print(traceback.format_exc())
            exit_code, message = 1, str(error)
        self._finish(process, exit_code=exit_code, error_type=error_type, message=message)

    def _finish(self, process: Process, *, exit_code: int, error_type: str | None, message: str | None) -> None:
        submission_id = process.submission.submission_id
        run = self._runs[submission_id]
        if process.stop_requested.is_set():  # whatever its exit code, as Ray does
            self._runs[submission_id] = replace(run, status=RunStatus.STOPPED)
        elif exit_code == 0:
            self._runs[submission_id] = replace(run, status=RunStatus.SUCCEEDED)
        else:
            self._runs[submission_id] = replace(
                run,
                status=RunStatus.FAILED,
                error_type=error_type or "JOB_ENTRYPOINT_COMMAND_ERROR",
                message=message or f"exit code {exit_code}\n{''.join(process.printed[-10:])}",
            )
        self._start_pending()
