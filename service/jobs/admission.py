"""Who may leave the queue, and who must make room: a function of what waits, what runs, and what the cluster has.

A gang of n workers reserves n CPUs or n GPUs and nothing else (`workers/jobs/ray_group.py`), so the two kinds are two
queues, which share the quotas of projects and the number of active jobs. In each, the first job that lacks room is the
head: room is kept for it, and who stands behind may only take what does not make it start later (EASY backfill).
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from service.cluster.base import Accelerator, Capacity
from service.jobs.queueing import (
    Admission,
    Blocked,
    BlockedReason,
    Free,
    Holding,
    Quota,
    Waiting,
    earliest_start,
    free_room,
    seconds_left,
)


def admit_gangs(
    waiting: Iterable[Waiting],
    holding: Iterable[Holding],
    *,
    capacity: Capacity,
    quotas: Mapping[str, Quota],
    max_active_jobs: int,
    now: datetime,
) -> Admission:
    """One look at the whole queue."""
    look = _Look(holding, capacity=capacity, quotas=quotas, max_active_jobs=max_active_jobs, now=now)
    start: list[str] = []
    blocked: dict[str, Blocked] = {}
    for job in sorted(waiting, key=lambda job: (-job.priority, job.queued_at, job.job_id)):
        obstacle = look.obstacle(job)
        if obstacle is None:
            look.take(job)
            start.append(job.job_id)
        else:
            blocked[job.job_id] = Blocked(*obstacle, position=len(blocked) + 1)
    return Admission(tuple(start), tuple(look.preempt), blocked)


_Obstacle = tuple[BlockedReason, str]


@dataclass(slots=True)
class _Head:
    """The job that room of one kind is kept for."""

    job_id: str
    project: str
    start_seconds: float  # from now, at the latest; infinite if nobody knows
    spare: float  # what is left beside it then


class _Look:
    """The state of one look: what has been given away so far, and to whom."""

    def __init__(
        self,
        holding: Iterable[Holding],
        *,
        capacity: Capacity,
        quotas: Mapping[str, Quota],
        max_active_jobs: int,
        now: datetime,
    ) -> None:
        self.preempt: list[str] = []
        self._holding = list(holding)
        self._capacity = capacity
        self._quotas = quotas
        self._max_active_jobs = max_active_jobs
        self._now = now
        self._heads: dict[Accelerator, _Head] = {}
        self._first_of_project: dict[str, str] = {}  # that waits for its project's quota
        self._jobs_of = Counter(job.project for job in self._holding)
        self._workers_of: Counter[str] = Counter()
        for job in self._holding:
            self._workers_of[job.project] += job.workers
        self._free: dict[Accelerator, Free] = {
            "cpu": free_room("cpu", self._holding, capacity),
            "gpu": free_room("gpu", self._holding, capacity),
        }

    def obstacle(self, job: Waiting) -> _Obstacle | None:
        """Why a job may not start now; None if it may. Asked in order of the queue."""
        if (total := self._capacity.total.of(job.accelerator)) < job.workers:
            return BlockedReason.EXCEEDS_CLUSTER, f"needs {_named(job)}, all nodes together have {total:g}"
        return self._obstacle_of_project(job) or self._obstacle_of_room(job)

    def take(self, job: Waiting) -> None:
        """Give a job its room."""
        runtime = job.max_runtime_seconds
        taken = Holding(
            job_id=job.job_id,
            project=job.project,
            priority=job.priority,
            accelerator=job.accelerator,
            workers=job.workers,
            started_at=self._now,
            placed=False,
            ends_by=None if runtime is None else self._now + timedelta(seconds=runtime),
        )
        self._holding.append(taken)
        self._free[job.accelerator].take(job.workers)
        self._jobs_of[job.project] += 1
        self._workers_of[job.project] += job.workers
        head = self._heads.get(job.accelerator)
        if head and not _over_by(head, job):
            head.spare -= job.workers

    def _obstacle_of_project(self, job: Waiting) -> _Obstacle | None:
        """Quotas bind one project only; within it nobody overtakes who waits for its quota."""
        quota = self._quotas.get(job.project, Quota())
        most_jobs, most_workers = (
            math.inf if limit is None else limit for limit in (quota.max_jobs, quota.max_workers)
        )
        jobs, workers = self._jobs_of[job.project], self._workers_of[job.project]
        if first := self._first_of_project.get(job.project):
            return BlockedReason.WAITING_TURN, f"{first} of the same project is ahead and waits for its quota"
        if job.workers <= most_workers - workers and jobs < most_jobs:
            return None
        if job.workers <= most_workers and most_jobs:  # else it waits for another quota, which should hold up nobody
            self._first_of_project[job.project] = job.job_id
        limit = _count(most_jobs, "active job") if jobs >= most_jobs else _count(most_workers, "worker")
        has = f"{_count(jobs, 'job')} with {_count(workers, 'worker')}"
        return BlockedReason.WAITING_QUOTA, f"project {job.project} may have {limit} at a time; it has {has}"

    def _obstacle_of_room(self, job: Waiting) -> _Obstacle | None:
        slots = self._max_active_jobs - len(self._holding)
        fits = slots > 0 and job.workers <= self._free[job.accelerator].surely
        head = self._heads.get(job.accelerator)
        if head is None:
            return None if fits else self._become_head(job)
        if fits and (_over_by(head, job) or job.workers <= head.spare):
            return None
        ahead = head.job_id if head.project == job.project else "a job of another project"  # whose ids are its own
        return BlockedReason.WAITING_TURN, f"{ahead} is ahead and waits for room"

    def _become_head(self, job: Waiting) -> _Obstacle:
        """Keep room for a job, and ask others to make some if that helps; of one head at a time."""
        if not self.preempt:
            self.preempt.extend(victim.job_id for victim in self._victims(job))
            self._holding = [
                replace(held, leaving=held.leaving or held.job_id in self.preempt) for held in self._holding
            ]
        same_kind = [held for held in self._holding if held.accelerator == job.accelerator]
        free = self._free[job.accelerator]
        releases = [(seconds_left(held, self._now), held.workers) for held in same_kind]
        start_seconds, spare = earliest_start(job.workers, free, releases)
        self._heads[job.accelerator] = _Head(job.job_id, job.project, start_seconds, spare)
        leaving = sum(held.leaving for held in self._holding)
        if leaving and self._makes_room(job, [], free=free.likely):
            return BlockedReason.WAITING_PREEMPTION, f"waits for {_count(leaving, 'job')} that will make room"
        if job.workers <= free.surely:
            active = _count(len(self._holding), "job")
            return BlockedReason.ENGINE_FULL, f"{active} active, and there may be {self._max_active_jobs}"
        when = ""
        if 0 < start_seconds < math.inf:  # as a time, since a message that changes at every look is written every time
            when = f", enough by {_shown(self._now + timedelta(seconds=start_seconds))}"
        return BlockedReason.WAITING_CAPACITY, f"needs {_named(job)}, {max(free.surely, 0):g} free{when}"

    def _victims(self, job: Waiting) -> list[Holding]:
        """Those of lower priority that must leave for a job to start, none of whom could be spared.

        The lowest priority first, of equals the latest. Empty if even all together would not surely make room, or if
        those that are leaving already do.
        """
        lower = [held for held in self._holding if held.priority < job.priority and not held.leaving]
        lower.sort(key=lambda held: (held.started_at, held.job_id), reverse=True)
        lower.sort(key=lambda held: held.priority)
        free = self._free[job.accelerator]
        if not self._makes_room(job, lower, free=free.surely):
            return []
        chosen: list[Holding] = []
        for held in lower:
            if self._makes_room(job, chosen, free=free.likely):
                break
            chosen.append(held)
        for held in reversed(chosen):
            without = [other for other in chosen if other is not held]
            chosen = without if self._makes_room(job, without, free=free.likely) else chosen
        return chosen

    def _makes_room(self, job: Waiting, going: Sequence[Holding], *, free: float) -> bool:
        """Whether a job may start once `going` are gone, and those that leave already."""
        gone = [*going, *(held for held in self._holding if held.leaving)]
        workers = sum(held.workers for held in gone if held.accelerator == job.accelerator)
        has_slot = len(self._holding) - len(gone) < self._max_active_jobs
        return has_slot and job.workers <= free + workers


def _over_by(head: _Head, job: Waiting) -> bool:
    """Whether a job that starts now is over when the head starts."""
    if job.max_runtime_seconds is None or math.isinf(head.start_seconds):
        return False
    return job.max_runtime_seconds <= head.start_seconds


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _named(job: Waiting) -> str:
    return _count(job.workers, job.accelerator.upper())


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}" if number == 1 else f"{number:g} {what}s"
