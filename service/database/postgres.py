"""Opening Postgres, which may be far away, and the way to it dead."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


@asynccontextmanager
async def open_postgres(
    url: str, *, idle_seconds: float, patience_seconds: float, migrating: bool = False
) -> AsyncIterator[AsyncEngine]:
    """We wait `patience_seconds` at a time: for a connection, and for each answer unless it is to a migration.

    The driver keeps the time, since a transaction that is cancelled still waits for the answer to its ROLLBACK; it
    drops a connection that was late. The server undoes what we hold when it has not heard of us for `idle_seconds`.
    """
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",  # a read and a ping take one round trip each, not three
        pool_pre_ping=True,
        pool_size=20,
        max_overflow=0,  # what overflows is opened and closed for each transaction, and that takes longer than it
        pool_timeout=patience_seconds,
        connect_args={
            "timeout": patience_seconds,
            "command_timeout": None if migrating else patience_seconds,
            "server_settings": {"idle_in_transaction_session_timeout": str(int(idle_seconds * 1000))},
        },
        hide_parameters=True,  # among them are secrets, and errors are logged
    )
    try:
        yield engine
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_seconds):
                await engine.dispose()
