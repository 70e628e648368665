"""A Ray head that misbehaves by script: its job interface over real HTTP, its drivers played by the test.

What it does lives here; how it is spoken to, in `scripted_ray_http`. Submissions outlive the clients, so the service
may be killed and started again beside it.
"""

import secrets
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from service.cluster.base import NO_RESOURCES, Resources, RunStatus


class Fault(StrEnum):
    """What may go wrong with one call. `before`: nothing was done; `after`: it was done, and nobody learns of it."""

    ERROR_BEFORE = "500_before"
    ERROR_AFTER = "500_after"
    TIMEOUT_BEFORE = "timeout_before"
    TIMEOUT_AFTER = "timeout_after"
    DROP_BEFORE = "drop_connection_before"
    DROP_AFTER = "drop_connection_after"
    NO_AGENT = "no_agent"
    GARBAGE = "garbage"  # done, and answered by what is not JSON
    UNKNOWN = "404"  # Ray's own 404 for what it knows very well


class CallName(StrEnum):
    SESSION = "session"
    SUBMIT = "submit"
    PROBE = "probe"
    FIND = "find"
    LIST = "list"
    STOP = "stop"
    DELETE = "delete"
    LOGS = "logs"
    CAPACITY = "capacity"


@dataclass(frozen=True, slots=True)
class Call:
    """One request that came in."""

    name: CallName
    submission_id: str | None = None


@dataclass(slots=True)
class Job:
    """A submission. `status` is what is true; `false_error` the error type of a failure that is reported instead."""

    submission_id: str
    entrypoint: str
    metadata: dict[str, str]
    environment: dict[str, str]
    status: RunStatus = RunStatus.PENDING
    error_type: str | None = None
    message: str | None = None
    false_error: str | None = None
    stop_requested: bool = False
    holds: Resources = NO_RESOURCES  # until it ends
    printed: list[str] = field(default_factory=list)

    @property
    def is_running(self) -> bool:
        """Whether its driver runs."""
        return self.status is RunStatus.RUNNING


Hook = Callable[[Job], None]
Script = Callable[[Call], Fault | None]


def no_fault(call: Call) -> Fault | None:
    return None


def nothing(job: Job) -> None:
    """What a driver does that has no part in the test."""


class ScriptedRay:
    """State and script of the head. All of it may be used from any thread, also from within the hooks.

    Attributes:
        url: where it listens.
        on_start, on_stop: called when a driver starts, or is told to leave; they run before the caller is answered.
        starts_at_once: a submission runs as soon as it is taken; otherwise it is PENDING until `start`.
        stops_at_once: a driver that is told to leave is STOPPED after `on_stop`; otherwise when the test says so.
        script: asked for each call that no queued fault fits.
        starts: how often each submission was started, over all sessions.
        overlaps: submissions that were started while they lived.
        accounts: whether the head keeps account of each node's use, as one with a monitor does.
        total: what its one node has.
    """

    def __init__(self, *, token: str | None = None) -> None:
        self.url = ""
        self.token = token
        self.on_start: Hook = nothing
        self.on_stop: Hook = nothing
        self.starts_at_once = True
        self.stops_at_once = True
        self.script: Script = no_fault
        self.accounts = True
        self.total = Resources(cpus=4.0, gpus=0.0)
        self.calls: list[Call] = []
        self.starts: Counter[str] = Counter()
        self.overlaps: list[str] = []
        self.foreign: list[dict[str, Any]] = []  # drivers that connected by themselves, as Ray lists them
        self.errors: list[BaseException] = []  # of the server's threads
        self.lock = threading.RLock()
        self.session = _new_session()
        self.jobs: dict[str, Job] = {}
        self._faults: deque[tuple[CallName | None, Fault]] = deque()
        self._started: dict[str, Job] = {}

    def fault(self, fault: Fault, call: CallName | None = None, *, times: int = 1) -> None:
        """Let the next calls (of that name) go wrong."""
        self._faults.extend([(call, fault)] * times)

    def clear_faults(self) -> None:
        """No more faults, and the truth about every driver."""
        with self.lock:
            self._faults.clear()
            self.script = no_fault
            for job in self.jobs.values():
                job.false_error = None

    def called(self, call: Call) -> Fault | None:
        """Note it, and say what goes wrong with it."""
        with self.lock:
            self.calls.append(call)
            for place, (name, fault) in enumerate(self._faults):
                if name in {None, call.name}:
                    del self._faults[place]
                    return fault
        return self.script(call)

    @property
    def running(self) -> set[str]:
        """Submissions whose driver runs."""
        with self.lock:
            return {submission_id for submission_id, job in self._started.items() if job.is_running}

    def take(self, job: Job) -> bool:
        """Write a submission down, unless its id is known, and start it if it shall not wait."""
        with self.lock:
            if job.submission_id in self.jobs:
                return False
            self.jobs[job.submission_id] = job
        if self.starts_at_once:
            self.start(job.submission_id)
        return True

    def start(self, submission_id: str) -> None:
        with self.lock:
            job = self.jobs[submission_id]
            if submission_id in self.running:
                self.overlaps.append(submission_id)
            self.starts[submission_id] += 1
            self._started[submission_id] = job
            job.status = RunStatus.RUNNING
        self.on_start(job)

    def stop(self, submission_id: str) -> bool:
        """Ray's answer to it, which is true for a pending one, to which nothing happens."""
        with self.lock:
            job = self.jobs[submission_id]
            is_new = job.is_running and not job.stop_requested
            job.stop_requested = job.is_running
        if is_new:
            self.on_stop(job)
        if self.stops_at_once and job.is_running:
            self.stopped(submission_id)
        return job.stop_requested or job.status is RunStatus.PENDING

    def succeed(self, submission_id: str) -> None:
        self._end(submission_id, RunStatus.SUCCEEDED)

    def stopped(self, submission_id: str) -> None:
        self._end(submission_id, RunStatus.STOPPED)

    def fail(
        self,
        submission_id: str,
        error_type: str = "JOB_ENTRYPOINT_COMMAND_ERROR",
        message: str = "Job entrypoint command failed with exit code 1",
    ) -> None:
        self._end(submission_id, RunStatus.FAILED, error_type=error_type, message=message)

    def false_failed(self, submission_id: str, error_type: str = "JOB_SUPERVISOR_ACTOR_DIED") -> None:
        """Call it FAILED whatever its driver does, until `clear_faults`."""
        self.jobs[submission_id].false_error = error_type

    def forget(self, *, drivers_die: bool = True) -> None:
        """Come back empty, as another session."""
        with self.lock:
            for job in self.jobs.values():
                if drivers_die and not job.status.is_terminal:
                    job.status = RunStatus.FAILED
            self.jobs.clear()
            self.foreign.clear()
            self.session = _new_session()

    def _end(
        self, submission_id: str, status: RunStatus, *, error_type: str | None = None, message: str | None = None
    ) -> None:
        with self.lock:
            job = self._started[submission_id]
            job.status, job.error_type, job.message, job.holds = status, error_type, message, NO_RESOURCES


def _new_session() -> str:
    return f"session_{secrets.token_hex(8)}"
