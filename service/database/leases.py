"""Named leases: of several replicas one at a time does what must be done by one."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.clock import Clock
from service.database.engine import Database
from service.database.tables import leases

log = structlog.get_logger()


class LeaseLost(Exception):
    """Somebody else has it by now."""


async def hold(database: Database, name: str, token: str, *, now: datetime, seconds: float) -> bool:
    """Take or keep the lease of this name; False while somebody else has it."""
    values = {"token": token, "until": now + timedelta(seconds=seconds)}
    insert = database.insert(leases).values(name=name, **values)
    ours = (leases.c.token == token) | (leases.c.until < now)
    async with database.writing() as connection:
        taken = insert.on_conflict_do_update(index_elements=["name"], set_=values, where=ours)
        return bool((await connection.execute(taken)).rowcount)


async def confirm(connection: AsyncConnection, name: str, token: str) -> None:
    """To be called in a transaction that may be committed only by who has the lease; nobody takes it before the end.

    Raises:
        LeaseLost: this replica slept past it.
    """
    holder = await connection.scalar(select(leases.c.token).where(leases.c.name == name).with_for_update(read=True))
    if holder != token:
        raise LeaseLost(name)


async def alone(
    database: Database,
    name: str,
    token: str,
    work: Callable[[], Coroutine[Any, Any, None]],
    *,
    clock: Clock,
    seconds: float,
) -> None:
    """Do what one replica at a time does, unless another is at it.

    The lease is kept until it is done, which may take longer than that lasts. Where somebody else has it by now, the
    work is cut off.

    Raises:
        DatabaseUnavailable: nobody knows who has it; the work was cut off, too.
    """
    if not await hold(database, name, token, now=clock(), seconds=seconds):
        return
    task = asyncio.create_task(work())
    try:
        while not (await asyncio.wait([task], timeout=seconds / 3))[0]:
            if not await hold(database, name, token, now=clock(), seconds=seconds):
                log.warning("lease.lost", name=name)
                return
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])
