"""Both kinds of database that the service knows, as many fresh ones as a test wants."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from sqlalchemy.engine import make_url

from service.database import Database, open_database
from service.database.tables import metadata
from tests.support.postgres import Postgres, postgres

_numbers = count(1)


class Databases(Protocol):
    """Where databases come from."""

    def empty(self) -> str:
        """The URL of one without tables."""

    def migrated(self) -> str:
        """The URL of one with all tables and no rows; a copy, which is quicker than to migrate again."""


@dataclass(frozen=True, slots=True)
class SqliteFiles:
    """A file each."""

    folder: Path

    def empty(self) -> str:
        return sqlite_url(self.folder / f"test{next(_numbers)}.db")

    def migrated(self) -> str:
        url = self.empty()
        prepare(url)
        return url


@dataclass(frozen=True, slots=True)
class PostgresDatabases:
    """All on one server."""

    server: Postgres
    template: str  # URL of a migrated one

    def empty(self) -> str:
        return self.server.new_database()

    def migrated(self) -> str:
        return self.server.new_database(template=make_url(self.template).database or "")


@contextmanager
def lone_database(kind: str, folder: Path, *, durable: bool = False) -> Iterator[str]:
    """The URL of an empty one: `sqlite` in the folder, or `postgres` on a server of its own, which may be durable."""
    if kind == "sqlite":
        yield sqlite_url(folder / "service.db")
    else:
        with postgres(durable=durable) as server:
            yield server.new_database()


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def migrate(url: str) -> None:
    """Bring it up to date; not to be called from within an event loop."""

    async def open_and_close() -> None:
        async with open_database(url):
            pass

    asyncio.run(open_and_close())


def prepare(url: str) -> None:
    """Have all tables in it before it is opened, if it is a file that is not there yet: a copy, as `migrated` gives."""
    place = make_url(url)
    path = Path(place.database or "")
    if place.get_backend_name() == "sqlite" and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_migrated_file())


@cache
def _migrated_file() -> bytes:
    """Made once a process; in a thread, for who asks may be within an event loop."""
    with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        path = Path(folder, "template.db")
        thread.submit(migrate, sqlite_url(path)).result()
        return path.read_bytes()


async def emptied(database: Database) -> None:
    """Without a row, as after `migrated`, but quicker where a new database takes its time."""
    async with database.writing() as connection:
        for table in reversed(metadata.sorted_tables):
            await connection.execute(table.delete())
