"""Opening the database and its two kinds of transaction."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.database.lock import exclusive
from service.database.tables import metadata
from service.errors import DatabaseUnavailable

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",  # readers do not wait for the writer
    "PRAGMA synchronous=NORMAL",  # safe with WAL against a crash of the process
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=10000",
)


class Database:
    """Transactions: committed at the end of the block, rolled back by an exception.

    Both raise DatabaseUnavailable where SQLite cannot go on: no disk space, no permission, an I/O error.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        with _explained():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        with _explained():
            async with self._engine.connect() as connection:
                await connection.execution_options(writes=True)
                async with connection.begin():
                    yield connection


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """Open or create it, for this process alone.

    Raises:
        DatabaseInUse: if another process has it.
    """
    path = Path(make_url(url).database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path):
        engine = create_async_engine(url)
        event.listen(engine.sync_engine, "connect", _configure)
        event.listen(engine.sync_engine, "begin", _begin)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(metadata.create_all)
            yield Database(engine)
        finally:
            await engine.dispose()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise DatabaseUnavailable(f"{error.orig}: nothing was changed; see to it, then try again") from error


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin too late; see _begin
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    # A transaction that reads before it writes must hold the write lock from the start, or SQLite may refuse the write.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
