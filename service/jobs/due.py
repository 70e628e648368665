"""What is due of jobs: tried some at a time, and again at the next look until it is done."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

import structlog

from service.cluster.base import ClusterUnreachable
from service.database.leases import Replica
from service.errors import DatabaseUnavailable, MlflowUnavailable, StorageUnavailable
from service.jobs.records import AttemptRecord, JobRecord

log = structlog.get_logger()
_Thing = TypeVar("_Thing", AttemptRecord, JobRecord)


class FindDue(Protocol):
    """The jobs of which something is due, by their ids; so many of those behind `after`."""

    def __call__(self, *, after: str = "", limit: int = ...) -> Awaitable[list[JobRecord]]: ...


async def each(
    things: Iterable[_Thing], work: Callable[[_Thing], Awaitable[None]], *, at_a_time: int, told_as: str
) -> None:
    """So many side by side; what fails is told in the log, as `told_as`, and keeps no other from its turn."""
    places = asyncio.Semaphore(at_a_time)
    postponed, failed = f"{told_as}.postponed", f"{told_as}.failed"

    async def isolated(thing: _Thing) -> None:
        job_id = thing.job_id if isinstance(thing, AttemptRecord) else thing.id
        try:
            async with places:
                await work(thing)
        except (ClusterUnreachable, DatabaseUnavailable, MlflowUnavailable, StorageUnavailable) as error:
            log.info(postponed, job_id=job_id, error=str(error))
        except Exception:
            log.exception(failed, job_id=job_id)

    await asyncio.gather(*map(isolated, things))


async def each_due(
    find: FindDue, work: Callable[[JobRecord], Awaitable[None]], *, at_a_time: int, told_as: str
) -> None:
    """All that are due, some of them in memory at a time; each is tried once."""
    after = ""
    while some := await find(after=after):
        await each(some, work, at_a_time=at_a_time, told_as=told_as)
        after = some[-1].id


async def alone_if_due(
    replica: Replica, name: str, work: Callable[[], Coroutine[Any, Any, None]], *finds: FindDue
) -> bool | None:
    """A look of a loop whose work one replica does at a time, where any of it is due; None if another is at it."""
    for find in finds:
        if await find(limit=1):
            return False if await replica.alone(name, work) else None
    return False
