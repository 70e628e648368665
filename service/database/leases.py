"""Named leases: of several replicas one at a time does what must be done by one."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One of the processes that share a database, told from the others by its token."""

    database: Database
    token: str
    clock: Clock
    lease_seconds: float = 30.0

    async def hold(self, name: str) -> bool:
        """Take or keep the lease of this name; False while somebody else has it."""
        now = self.clock()
        values = {"token": self.token, "until": now + timedelta(seconds=self.lease_seconds)}
        insert = self.database.insert(leases).values(name=name, **values)
        ours = (leases.c.token == self.token) | (leases.c.until < now)
        async with self.database.writing() as connection:
            taken = insert.on_conflict_do_update(index_elements=["name"], set_=values, where=ours)
            return bool((await connection.execute(taken)).rowcount)

    async def confirm(self, connection: AsyncConnection, name: str) -> None:
        """For a transaction that only who has the lease may commit; nobody takes it before the end.

        Raises:
            LeaseLost: this replica slept past it.
        """
        query = select(leases.c.token).where(leases.c.name == name)
        if await connection.scalar(query.with_for_update(read=True)) != self.token:
            raise LeaseLost(name)

    async def alone(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Do what one replica at a time does; False if another is at it.

        The lease is kept until it is done, which may take longer than that lasts. Where somebody else has it by now,
        the work is cut off.

        Raises:
            DatabaseUnavailable: nobody knows who has it; the work was cut off, too.
        """
        if not await self.hold(name):
            return False
        task = asyncio.create_task(work())
        try:
            while not (await asyncio.wait([task], timeout=self.lease_seconds / 3))[0]:
                if not await self.hold(name):
                    log.warning("lease.lost", name=name)
                    return False
            await task
            return True
        finally:
            task.cancel()
            await asyncio.wait([task])
