"""SQLite called where it is used, instead of in a thread beside: most statements take less time than the way there.

Statements hold up the event loop while they run, so they must be ones that an index answers. There must be no second
writer in this process: the one would wait for the other without letting it go on (`Database` sees to that).
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, CursorResult, Engine, Executable, FromClause, ScalarResult, create_engine, event
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",  # readers do not wait for the writer
    "PRAGMA synchronous=NORMAL",  # safe with WAL against a crash of the process
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=2000",  # another program that writes to the file holds up all of ours for so long
)
_Result = TypeVar("_Result")


def open_sqlite(url: URL) -> Engine:
    """Its pool never makes anyone wait, which would be for ever here."""
    engine = create_engine(
        url,
        connect_args={"isolation_level": None},
        pool_size=10,
        max_overflow=-1,
        hide_parameters=True,  # among them are secrets, and errors are logged
    )
    engine.dialect.statement_compiler = _Compiler
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


class _Compiler(SQLiteCompiler):
    """Writes down the hints of a query; SQLAlchemy's own compiler leaves out those for SQLite."""

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:  # noqa: ARG002
        return text


class InlineConnection:
    """What stores use of an `AsyncConnection`, over one that is not."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[None]:
        with self._connection.begin():
            yield

    async def execution_options(self, **options: Any) -> "InlineConnection":
        self._connection.execution_options(**options)
        return self

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        return self._connection.execute(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> CursorResult[Any]:
        return self._connection.exec_driver_sql(statement, parameters)

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        return self._connection.scalar(statement, parameters)

    async def scalars(self, statement: Executable, parameters: Any = None) -> ScalarResult[Any]:
        return self._connection.scalars(statement, parameters)

    async def run_sync(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        return function(self._connection, *arguments)


@asynccontextmanager
async def connected(engine: Engine) -> AsyncIterator[AsyncConnection]:
    """A connection as if it were asynchronous."""
    with engine.connect() as connection:
        yield cast(AsyncConnection, InlineConnection(connection))


def _configure(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    # A transaction that reads before it writes must hold the write lock from the start, or SQLite may refuse the write.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
