"""The database: SQLite for one process at a time, Postgres that comes and goes, and safe transactions on both."""

import asyncio
import subprocess
import sys
import traceback
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import SQLAlchemyError
from structlog.testing import capture_logs

from service.database import Database, open_database
from service.database.leases import Replica
from service.database.tables import installation, leases
from service.errors import DatabaseInUse, DatabaseUnavailable
from tests.support.clock import ManualClock
from tests.support.fresh_databases import PostgresDatabases
from tests.support.plane import eventually, settings_in
from tests.support.postgres import Postgres

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


async def test_side_by_side_writers_never_collide(database_url: str) -> None:
    async with open_database(database_url) as database:
        await _count_to(database, 0)

        async def increment() -> None:
            async with database.writing() as connection:
                value = await connection.scalar(select(installation.c.id).with_for_update())
                await connection.execute(update(installation).values(id=str(int(value or 0) + 1)))

        await asyncio.gather(*(increment() for _ in range(50)))

        assert await _counted(database) == "50"


async def test_what_fails_half_way_leaves_nothing_behind(database_url: str) -> None:
    async with open_database(database_url) as database:

        async def fail_half_way() -> None:
            async with database.writing() as connection:
                await connection.exec_driver_sql("INSERT INTO installation (id) VALUES ('half')")
                raise ValueError("half way")

        with pytest.raises(ValueError, match="half way"):
            await fail_half_way()

        assert await _counted(database) is None


async def test_of_several_that_want_a_lease_one_gets_it_until_it_sleeps_too_long(database_url: str) -> None:
    clock = ManualClock()
    async with open_database(database_url) as database:

        async def take(token: str) -> bool:
            return await Replica(database=database, token=token, clock=clock).hold("scheduler")

        first = await asyncio.gather(*(take(token) for token in "abcdef"))
        assert sum(first) == 1
        holder, other = "abcdef"[first.index(True)], "abcdef"[first.index(False)]

        clock.advance(29)
        assert await take(holder), "it is kept by taking it again"
        clock.advance(29)
        assert not await take(other)
        clock.advance(2)
        assert await take(other)
        assert not await take(holder)


async def test_a_lease_is_kept_while_work_takes_longer_than_it_lasts(database_url: str) -> None:
    clock, seconds = ManualClock(), 0.06
    async with open_database(database_url) as database:
        ours = Replica(database=database, token="ours", clock=clock, lease_seconds=seconds)

        async def lasting() -> bool:
            async with database.reading() as connection:
                until = await connection.scalar(select(leases.c.until))
            return until is not None and until == clock() + timedelta(seconds=seconds)

        async def work() -> None:
            for _ in range(5):
                clock.advance(seconds / 2)
                await eventually(lasting, what="the lease is renewed")
                assert not await replace(ours, token="other").hold("looking")

        await ours.alone("looking", work)


async def test_work_whose_lease_has_passed_to_somebody_else_is_cut_off(database_url: str) -> None:
    clock, told = ManualClock(), list[str]()

    async with open_database(database_url) as database:
        ours = Replica(database=database, token="ours", clock=clock, lease_seconds=0.03)
        other = replace(ours, token="other", lease_seconds=60.0)

        async def work() -> None:
            while not await other.hold("looking"):
                clock.advance(1)
            told.append("overtaken")
            try:
                await asyncio.Event().wait()
            finally:
                told.append("cut off")

        await ours.alone("looking", work)
        await replace(ours, token="third").alone("looking", work)

    assert told == ["overtaken", "cut off"]


async def test_leases_of_a_process_that_had_the_file_and_is_gone_are_void(tmp_path: Path) -> None:
    url, clock = settings_in(tmp_path).database_url, ManualClock()
    async with open_database(url) as database:
        assert await Replica(database=database, token="first", clock=clock).hold("scheduler")

    async with open_database(url) as database:
        assert await Replica(database=database, token="second", clock=clock).hold("scheduler")


async def test_a_postgres_that_goes_away_is_unavailable_and_is_found_again(
    postgres: Postgres, postgres_databases: PostgresDatabases
) -> None:
    """With connections open, in the middle of a transaction, and before the first connection."""
    url = postgres_databases.migrated()
    async with open_database(url) as database:
        await _count_to(database, 1)

        async def be_cut_off() -> None:
            async with database.writing() as connection:
                await connection.exec_driver_sql("UPDATE installation SET id = '2'")
                await asyncio.to_thread(postgres.stop)
                await connection.exec_driver_sql("UPDATE installation SET id = '3'")

        try:
            with pytest.raises(DatabaseUnavailable):
                await be_cut_off()
            for _ in range(3):
                with pytest.raises(DatabaseUnavailable):
                    await _counted(database)
                with pytest.raises(DatabaseUnavailable):
                    await _count_to(database, 4)
            with pytest.raises(DatabaseUnavailable):
                async with open_database(url):
                    pass
        finally:
            await asyncio.to_thread(postgres.start)

        assert await _counted(database) == "1"
        await _count_to(database, 5)
        assert await _counted(database) == "5"


async def test_a_postgres_that_ends_our_connections_is_reached_again_at_once(
    postgres_databases: PostgresDatabases,
) -> None:
    """As an operator's restart of a pooler or a failover does."""
    async with open_database(postgres_databases.migrated()) as database:
        await _count_to(database, 1)

        async def be_cut_off() -> None:
            async with database.writing() as connection:
                await connection.exec_driver_sql("UPDATE installation SET id = '2'")
                await _end_other_connections(database)
                await connection.exec_driver_sql("UPDATE installation SET id = '3'")

        with pytest.raises(DatabaseUnavailable):
            await be_cut_off()

        assert await _counted(database) == "1"


async def test_a_database_that_is_not_there_is_unavailable_and_the_log_alone_says_where_and_whose_it_is(
    postgres: Postgres,
) -> None:
    url = postgres.url("nowhere")
    wrong = {
        "nowhere": url,
        "127.0.0.1": url.replace(str(postgres.port), "1"),
        "stranger": url.replace("cdm@", "stranger@"),
    }
    for secret, wrong_url in wrong.items():
        with capture_logs() as logged, pytest.raises(DatabaseUnavailable, match="the service's log says") as refused:
            async with open_database(wrong_url):
                pass

        assert secret not in str(refused.value)
        assert secret in logged[-1]["error"]


async def test_a_full_disk_is_said_to_be_one_and_changes_nothing(tmp_path: Path) -> None:
    async with open_database(settings_in(tmp_path).database_url) as database:

        async def write_too_much() -> None:
            async with database.writing() as connection:
                await connection.exec_driver_sql("PRAGMA max_page_count = 1")  # it may not grow
                await connection.exec_driver_sql("CREATE TABLE big (data BLOB)")
                await connection.exec_driver_sql("INSERT INTO big VALUES (zeroblob(1000000))")

        with capture_logs() as logged, pytest.raises(DatabaseUnavailable, match="nothing was changed: try again"):
            await write_too_much()
        assert "full" in logged[-1]["error"]

        async with database.reading() as connection:
            names = await connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name = 'big'")
            assert names.all() == []


async def _count_to(database: Database, value: int) -> None:
    async with database.writing() as connection:
        await connection.exec_driver_sql("DELETE FROM installation")
        await connection.execute(installation.insert().values(id=str(value)))


async def _counted(database: Database) -> str | None:
    async with database.reading() as connection:
        found = await connection.scalar(select(installation.c.id))
        return None if found is None else str(found)


async def _end_other_connections(database: Database) -> None:
    async with database.reading() as connection:
        await connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_what_a_failed_statement_was_given_is_not_in_its_error(database_url: str) -> None:
    """Errors are logged, and some parameters are secrets."""
    async with open_database(database_url) as database:
        with pytest.raises((SQLAlchemyError, DatabaseUnavailable)) as caught:
            async with database.writing() as connection:
                await connection.execute(text("INSERT INTO nowhere (secret) VALUES (:it)"), {"it": "of a webhook"})

    logged = "".join(traceback.format_exception(caught.value))
    assert "INSERT INTO nowhere" in logged
    assert "'of a webhook'" not in logged
