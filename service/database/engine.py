"""Opening the database and its two kinds of transaction."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Literal, cast

import structlog
from sqlalchemy import Engine, Table, delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.database.inline import connected, open_sqlite
from service.database.lock import exclusive
from service.database.postgres import open_postgres
from service.database.schema import upgrade
from service.database.tables import jobs, leases
from service.errors import DatabaseUnavailable

log = structlog.get_logger()

# Classes of SQLSTATE by which Postgres says that it cannot go on now, and not that we asked for something wrong: broken
# connections, aborted transactions, no such database, deadlocks, no resources, locks, shutdowns, system errors.
_CANNOT_GO_ON = ("08", "25", "28", "3D", "40", "53", "55", "57", "58")
_IDLE_SECONDS = 10.0
_MEND = "try again; if that does not help, the service's log says what its operator has to mend"
_PATIENCE_SECONDS = 15.0  # longer than a frozen replica holds its locks, and half of the shortest lease


class Database:
    """What is written is a transaction: committed at the end of the block, rolled back by an exception.

    On Postgres each statement of a block that only reads stands for itself, as its level READ COMMITTED has it anyway.
    Both raise DatabaseUnavailable where the database cannot go on: no disk space, an I/O error, no connection, no
    answer. SQLite has one writer; the others wait for their turn here, where waiting holds up nobody else.
    """

    def __init__(self, engine: AsyncEngine | Engine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock() if isinstance(engine, Engine) else nullcontext()
        self.dialect = cast(Literal["sqlite", "postgresql"], engine.dialect.name)
        self._as_transaction = {"writes": True} if self.dialect == "sqlite" else {"isolation_level": "READ COMMITTED"}

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        with _explained():
            async with self._connected() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        with _explained():
            async with self._turn, self._connected() as connection:
                await connection.execution_options(**self._as_transaction)
                async with connection.begin():
                    yield connection

    def _connected(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return connected(self._engine) if isinstance(self._engine, Engine) else self._engine.connect()

    def insert(self, table: Table) -> sqlite.Insert:
        """An INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`; Postgres has the same."""
        return sqlite.insert(table) if self.dialect == "sqlite" else cast(sqlite.Insert, postgresql.insert(table))


@asynccontextmanager
async def open_database(
    url: str, *, idle_seconds: float = _IDLE_SECONDS, patience_seconds: float = _PATIENCE_SECONDS
) -> AsyncIterator[Database]:
    """Open or create it and bring its tables up to date. SQLite is opened for this process alone.

    Postgres undoes what a process that was frozen in the middle of a transaction holds after `idle_seconds`, or its
    locks would keep the other replicas from taking over. It has `patience_seconds` for a connection, and for each
    answer; only a migration may take as long as it does.

    Raises:
        DatabaseInUse: if another process has it.
        DatabaseUnavailable: if there is none at this address.
    """
    async with AsyncExitStack() as stack:
        place = make_url(url)
        if place.get_backend_name() == "sqlite":
            path = Path(place.database or "")
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(exclusive(path))
            file = open_sqlite(place)
            stack.callback(file.dispose)
            database = Database(file)
            await _migrate(database)
            await free_leases(database)  # nobody else may have the file open
        else:
            server = partial(open_postgres, url, idle_seconds=idle_seconds, patience_seconds=patience_seconds)
            async with server(migrating=True) as engine:
                await _migrate(Database(engine))
            database = Database(await stack.enter_async_context(server()))
        yield database


async def _migrate(database: Database) -> None:
    async with database.writing() as connection:
        await connection.run_sync(upgrade)


async def free_leases(database: Database) -> None:
    """Whoever held some is gone: no need to wait until they are over."""
    async with database.writing() as connection:
        await connection.execute(delete(leases))
        held = update(jobs).where(jobs.c.lease_token.is_not(None))
        await connection.execute(held.values(lease_token=None, lease_until=None))


@contextmanager
def _explained() -> Iterator[None]:
    """The driver's words go to the log alone: they may name hosts and users, and a 503 is read by strangers."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        _log_words_of(error.orig)
        raise DatabaseUnavailable(f"the database cannot be used, and nothing was changed: {_MEND}") from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if not (error.connection_invalidated or state.startswith(_CANNOT_GO_ON)):
            raise
        _log_words_of(error.orig)
        raise DatabaseUnavailable(f"the database cannot go on: {_MEND}") from error
    except PoolTimeout as error:
        raise DatabaseUnavailable("too much is asked of the database at once: try again") from error
    except TimeoutError as error:  # perhaps it was done, and only the answer is late
        raise DatabaseUnavailable("the database does not answer: try again") from error
    except OSError as error:  # what asyncpg lets through while it connects
        _log_words_of(error)
        raise DatabaseUnavailable(f"the database cannot be reached: {_MEND}") from error


def _log_words_of(error: BaseException | None) -> None:
    log.warning("database.unavailable", error=f"{type(error).__name__}: {error}")
