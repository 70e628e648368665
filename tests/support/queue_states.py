"""Queues, what runs, and what there is to run on, for tests of admission."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from service.cluster.base import Accelerator, Capacity, Resources
from service.jobs.admission import admit_gangs
from service.jobs.queueing import Admission, Holding, Quota, Waiting

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KINDS: tuple[Accelerator, ...] = ("cpu", "gpu")


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def waiting(
    job_id: str,
    workers: int = 1,
    *,
    queued: float = 0,
    priority: int = 1,
    kind: Accelerator = "gpu",
    project: str = "default",
    runtime: float | None = None,
) -> Waiting:
    return Waiting(
        job_id=job_id,
        project=project,
        priority=priority,
        queued_at=after(queued),
        accelerator=kind,
        workers=workers,
        max_runtime_seconds=runtime,
    )


def holding(
    job_id: str,
    workers: int = 1,
    *,
    started: float = -100,
    priority: int = 1,
    kind: Accelerator = "gpu",
    project: str = "default",
    placed: bool = True,
    ends: float | None = None,
    leaving: bool = False,
) -> Holding:
    return Holding(
        job_id=job_id,
        project=project,
        priority=priority,
        accelerator=kind,
        workers=workers,
        started_at=after(started),
        placed=placed,
        ends_by=None if ends is None else after(ends),
        leaving=leaving,
    )


@dataclass(frozen=True)
class QueueState:
    """What is true; the engine's account shows of our gangs only those that have `taken` their workers."""

    waiting: tuple[Waiting, ...]
    holding: tuple[Holding, ...]
    total: Resources
    foreign: Resources
    taken: frozenset[str]
    quotas: dict[str, Quota]
    max_active_jobs: int

    @property
    def capacity(self) -> Capacity:
        return Capacity(total=self.total, free=Resources(cpus=self._free("cpu"), gpus=self._free("gpu")))

    def _free(self, kind: Accelerator) -> float:
        taken = sum(held.workers for held in self.of(kind) if held.job_id in self.taken)
        return self.total.of(kind) - self.foreign.of(kind) - taken

    def of(self, kind: Accelerator) -> list[Holding]:
        return [held for held in self.holding if held.accelerator == kind]

    def look(self) -> Admission:
        return admit_gangs(
            self.waiting,
            self.holding,
            capacity=self.capacity,
            quotas=self.quotas,
            max_active_jobs=self.max_active_jobs,
            now=NOW,
        )

    def started(self, admission: Admission) -> list[Waiting]:
        return [job for job in self.waiting if job.job_id in admission.start]

    def order(self) -> list[Waiting]:
        return sorted(self.waiting, key=lambda job: (-job.priority, job.queued_at, job.job_id))

    def without(self, gone: set[str]) -> "QueueState":
        return replace(self, holding=tuple(held for held in self.holding if held.job_id not in gone))
