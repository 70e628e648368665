"""What the queue is made of, what room there is, and when there will be enough of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.cluster.base import Accelerator, Capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A job in the queue. A higher `priority` goes first."""

    job_id: str
    project: str
    priority: int
    queued_at: datetime
    accelerator: Accelerator
    workers: int
    max_runtime_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """An active job: its gang is taken from admission until it is over.

    `placed`: the engine's account shows its workers for certain, as they have reported since they were last started.
    `ends_by`: when it will be over at the latest; None if nobody knows. `leaving`: it has been asked to go already.
    """

    job_id: str
    project: str
    priority: int
    accelerator: Accelerator
    workers: int
    started_at: datetime
    placed: bool
    ends_by: datetime | None = None
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Quota:
    """What a project may have active at a time; None is no limit."""

    max_workers: int | None = None
    max_jobs: int | None = None


class BlockedReason(StrEnum):
    """Why a job waits; a closed list."""

    WAITING_TURN = "waiting_turn"
    WAITING_CAPACITY = "waiting_capacity"
    WAITING_PREEMPTION = "waiting_preemption"
    WAITING_QUOTA = "waiting_quota"
    EXCEEDS_CLUSTER = "exceeds_cluster"
    ENGINE_FULL = "engine_full"


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a job waits, in a word and for people, and its place among those that wait: 1, 2, 3 ..."""

    reason: BlockedReason
    message: str
    position: int


@dataclass(frozen=True, slots=True)
class Admission:
    """What should happen now: job ids to start and to preempt, and why the others wait."""

    start: tuple[str, ...]
    preempt: tuple[str, ...]
    blocked: Mapping[str, Blocked]


@dataclass(slots=True)
class Free:
    """How much of one kind is free: for certain, and in all likelihood. Negative if more is promised than there is."""

    surely: float
    likely: float

    def take(self, workers: int) -> None:
        self.surely -= workers
        self.likely -= workers


def free_room(accelerator: Accelerator, holding: Sequence[Holding], capacity: Capacity) -> Free:
    """What is neither used by anybody nor promised to a gang of ours.

    A gang is ours from admission on, but the engine's account lags behind: a gang just admitted holds nothing in it
    yet, and one that is over may hold its workers a little longer. So, with used = total - free of the engine, what is
    left is total - ours - max(0, used - those of ours that are in `used`). Of the gangs not `placed`, nobody knows
    whether they are in it. If none is, the rest of `used` is other people's: only that is certain, and must do for
    whoever starts, or the workers of a gang on its way would be promised twice. If all are, more is left: that guess
    tells how early the head might start and how few must leave for it.
    """
    ours = [held for held in holding if held.accelerator == accelerator]
    unplaced = sum(held.workers for held in ours if not held.placed)
    left_by_us = capacity.total.of(accelerator) - sum(held.workers for held in ours)
    free = capacity.free.of(accelerator)
    return Free(surely=min(left_by_us, free - unplaced), likely=min(left_by_us, free))


def earliest_start(workers: int, free: Free, releases: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """When a gang might start, in seconds, and how much is surely left beside it from then on.

    `releases` are (seconds from now, workers). Where ends are unknown (infinite) nobody can say which comes first: left
    is what would be, were it the smallest.
    """
    for seconds in sorted({0.0, *(end for end, _ in releases if math.isfinite(end))}):
        released = sum(freed for end, freed in releases if end <= seconds)
        if workers <= free.likely + released:
            return seconds, max(0.0, free.surely + released - workers)
    smallest = min((freed for end, freed in releases if math.isinf(end)), default=0)
    return math.inf, max(0.0, free.surely + smallest - workers)


def seconds_left(held: Holding, now: datetime) -> float:
    """Until its gang is free, at the latest; infinite if nobody knows."""
    if held.leaving:
        return 0.0  # the earlier the head may start, the less is given to those behind it
    return math.inf if held.ends_by is None else max(0.0, (held.ends_by - now).total_seconds())
