"""The database: one process at a time, and safe transactions."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text as _text

from service.database import open_database
from service.errors import DatabaseInUse, DatabaseUnavailable
from tests.support.plane import settings_in

HOLDER = """
import asyncio, sys
from service.database import open_database
async def hold():
    async with open_database(sys.argv[1]):
        print("open", flush=True)
        sys.stdin.read()
asyncio.run(hold())
"""


async def test_a_second_process_is_told_who_has_the_database_and_gets_it_when_that_is_killed(tmp_path: Path) -> None:
    url = settings_in(tmp_path).database_url
    holder = subprocess.Popen(  # noqa: ASYNC220 (there is nothing else for this loop to do)
        [sys.executable, "-c", HOLDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"

        with pytest.raises(DatabaseInUse, match=f"in use by process {holder.pid}"):
            async with open_database(url):
                pass

        holder.kill()

    async with open_database(url):
        pass


async def test_side_by_side_writers_never_collide(tmp_path: Path) -> None:
    async with open_database(settings_in(tmp_path).database_url) as database:
        async with database.writing() as connection:
            await connection.exec_driver_sql("CREATE TABLE counter (value INTEGER)")
            await connection.exec_driver_sql("INSERT INTO counter VALUES (0)")

        async def increment() -> None:
            async with database.writing() as connection:
                value = await connection.scalar(_text("SELECT value FROM counter"))
                await connection.exec_driver_sql("UPDATE counter SET value = ?", (value + 1,))

        await asyncio.gather(*(increment() for _ in range(50)))

        async with database.reading() as connection:
            assert await connection.scalar(_text("SELECT value FROM counter")) == 50


async def test_a_full_disk_is_said_to_be_one_and_changes_nothing(tmp_path: Path) -> None:
    async with open_database(settings_in(tmp_path).database_url) as database:

        async def write_too_much() -> None:
            async with database.writing() as connection:
                await connection.exec_driver_sql("PRAGMA max_page_count = 1")  # it may not grow
                await connection.exec_driver_sql("CREATE TABLE big (data BLOB)")
                await connection.exec_driver_sql("INSERT INTO big VALUES (zeroblob(1000000))")

        with pytest.raises(DatabaseUnavailable, match="full"):
            await write_too_much()

        async with database.reading() as connection:
            names = await connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name = 'big'")
            assert names.all() == []
