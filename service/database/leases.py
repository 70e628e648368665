"""Named leases: of several replicas one at a time does what must be done by one."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database.engine import Database
from service.database.tables import leases


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
