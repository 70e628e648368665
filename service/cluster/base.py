"""What the control plane asks of an engine."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

Accelerator = Literal["cpu", "gpu"]


class RunStatus(StrEnum):
    """What the engine says of a submission; the words are Ray's."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def is_terminal(self) -> bool:
        return self not in {RunStatus.PENDING, RunStatus.RUNNING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A command to run once. Ids are letters, digits, `_` and `-`, and are never used again.

    The environment is stored and shown by the engine: no secrets.
    """

    submission_id: str
    entrypoint: str
    metadata: Mapping[str, str]
    environment: Mapping[str, str]

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.submission_id):  # Ray would keep a phantom that no path can name
            raise ValueError(f"not a submission id: {self.submission_id!r}")


_ID = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A submission as the engine knows it. `error_type` is Ray's word for why it failed."""

    submission_id: str
    status: RunStatus
    error_type: str | None
    message: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Logical ones, as the engine counts them: its processors need not be this machine's."""

    cpus: float
    gpus: float

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(cpus=self.cpus + other.cpus, gpus=self.gpus + other.gpus)

    def of(self, accelerator: Accelerator) -> float:
        """How many workers of this kind fit in: each takes one."""
        return self.cpus if accelerator == "cpu" else self.gpus

    def without(self, used: "Resources") -> "Resources":
        """What is left; never less than nothing."""
        return Resources(cpus=max(0.0, self.cpus - used.cpus), gpus=max(0.0, self.gpus - used.gpus))

    def at_least(self, other: "Resources") -> "Resources":
        """Of each the greater."""
        return Resources(cpus=max(self.cpus, other.cpus), gpus=max(self.gpus, other.gpus))


NO_RESOURCES = Resources(cpus=0.0, gpus=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What the living nodes have, and have left now, whoever uses the rest. It may be some seconds old.

    Nodes that come when more is asked for than there is count as if they were there, with nothing on them.
    """

    total: Resources
    free: Resources


class ClusterUnreachable(Exception):
    """No answer in time, or none that makes sense. Not evidence of anything; ask again."""


class AlreadySubmitted(Exception):
    """There is a submission with this id; whether it is the same one, `find` tells."""


class SubmissionRefused(Exception):
    """The engine will never take this submission."""


class Cluster(Protocol):
    """An engine. Every call ends in bounded time, and may raise ClusterUnreachable."""

    async def session(self) -> str:
        """The engine's life since its last start: another one than before proves that all of the old one is gone."""

    async def submit(self, submission: Submission) -> None:
        """Start a command. Repeating it after a lost answer is harmless.

        Raises:
            AlreadySubmitted, SubmissionRefused
        """

    async def find(self, submission_id: str) -> Run | None:
        """What became of a submission; None if the engine answers that it knows none of that id."""

    async def list(self) -> list[Run]:
        """Every submission that the engine knows, also those of others. It is the whole table: ask seldom."""

    async def stop(self, submission_id: str) -> None:
        """Ask it to leave: SIGTERM, then SIGKILL after its grace. Does nothing to one that is over or unknown.

        A pending submission ignores this: repeat until it is over.
        """

    async def delete(self, submission_id: str) -> None:
        """Forget one that is over. Does nothing to one that is not, or is unknown."""

    async def logs(self, submission_id: str) -> str:
        """What it printed so far; empty if that is gone or has not begun, and cut after some megabytes."""

    async def capacity(self) -> Capacity:
        """What there is to run on."""

    async def probe(self) -> None:
        """Return if a submission would be taken now."""

    async def close(self) -> None:
        """Let go of connections; submissions run on."""
