"""A database that is stopped, slow, or takes connections and answers nobody: refused in time, and found again."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import httpx2
import pytest
from sqlalchemy import select, text

from service.database import Database, open_database
from service.database.tables import installation
from service.errors import DatabaseUnavailable
from service.jobs.views import JobCreate
from service.web.api_keys import MARK
from tests.support.fresh_databases import PostgresDatabases
from tests.support.plane import DEADLINE_SECONDS, Plane, Served, served_in
from tests.support.postgres import Postgres
from workers.contract.presets import PRESETS

PATIENCE_SECONDS = 1.0
_Found = TypeVar("_Found")
JOB = JobCreate.model_validate({"spec": PRESETS["smoke"]}).model_dump(mode="json", exclude_unset=True)


@pytest.fixture
async def database(postgres_databases: PostgresDatabases) -> AsyncIterator[Database]:
    async with open_database(postgres_databases.migrated(), patience_seconds=PATIENCE_SECONDS) as database:
        await _in_the_end(lambda: _write(database, "before"))
        yield database


async def test_a_server_that_stops_to_answer_is_unavailable_and_is_found_again(
    database: Database, postgres: Postgres
) -> None:
    """With connections open, and without one."""
    async with database.reading(), database.reading():
        pass  # now there are two
    with postgres.frozen():
        for _ in range(2):
            await _unavailable(_read(database))
            await _unavailable(_write(database, "in vain"))

    assert await _in_the_end(lambda: _read(database)) == "before"
    await _in_the_end(lambda: _write(database, "after"))
    assert await _in_the_end(lambda: _read(database)) == "after"


async def test_a_transaction_whose_answer_does_not_come_ends_in_time_and_its_connection_is_not_used_again(
    database: Database, postgres: Postgres
) -> None:
    async def stopped_half_way() -> None:
        async with database.writing() as connection:
            await connection.execute(installation.update().values(id="half way"))
            with postgres.frozen():
                await connection.scalar(text("SELECT 'late'"))

    await _unavailable(stopped_half_way())

    assert await _in_the_end(lambda: _read(database)) == "before"


async def test_a_link_that_dies_within_a_transaction_does_not_keep_it_from_ending(
    database: Database, postgres: Postgres
) -> None:
    """It ends with a ROLLBACK that nobody answers, and no cancellation would end the waiting for that."""
    with ExitStack() as frozen:

        async def write() -> None:
            async with database.writing() as connection:
                await connection.execute(installation.update().values(id="half way"))
                frozen.enter_context(postgres.frozen())
                raise LookupError("rolls back")

        await _unavailable(write())

    assert await _in_the_end(lambda: _read(database)) == "before"


async def test_a_database_is_closed_in_time_though_nobody_answers(
    postgres: Postgres, postgres_databases: PostgresDatabases
) -> None:
    with ExitStack() as frozen:
        async with (
            asyncio.timeout(DEADLINE_SECONDS),
            open_database(postgres_databases.migrated(), patience_seconds=PATIENCE_SECONDS) as database,
        ):
            await _in_the_end(lambda: _write(database, "before"))
            frozen.enter_context(postgres.frozen())


async def test_a_migration_may_take_longer_than_any_other_statement(postgres_databases: PostgresDatabases) -> None:
    url = postgres_databases.migrated()

    async def open_and_close() -> None:
        async with open_database(url, patience_seconds=0.2):
            pass

    async with open_database(url) as other, other.writing() as connection:
        await connection.execute(text("LOCK TABLE alembic_version"))
        opening = asyncio.create_task(open_and_close())
        await asyncio.wait([opening], timeout=0.6)
        assert not opening.done()

    await opening


@pytest.fixture
async def served(tmp_path: Path, postgres_databases: PostgresDatabases) -> AsyncIterator[Served]:
    async with served_in(tmp_path, database_url=postgres_databases.migrated()) as served:
        yield served


async def test_while_the_server_is_down_requests_are_answered_503_and_then_as_before(
    served: Served, postgres: Postgres
) -> None:
    async def answers() -> list[httpx2.Response]:
        return [await served.api.get("/v1/jobs"), await served.api.post("/v1/jobs", json=JOB)]

    assert [answer.status_code for answer in await answers()] == [200, 201]

    await asyncio.to_thread(postgres.stop)
    try:
        for answer in await answers():
            assert answer.status_code == 503
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.headers["Retry-After"] == "5"
            assert answer.json()["code"] == "database_unavailable"
        stranger = {"Authorization": f"Bearer {MARK}made-up"}
        refused = await served.api.get("/v1/jobs", headers=stranger)
        assert refused.status_code == 503
        assert not re.search(rf"{postgres.port}|127\.0\.0\.1|Errno|Error", refused.json()["detail"])
        told = await _told_that_it_is_away(served)
        assert "cdm_jobs{" not in told
        assert float(told.split("\ncdm_collect_failures_total ")[1].split()[0]) >= 3
    finally:
        await asyncio.to_thread(postgres.start)

    assert [answer.status_code for answer in await answers()] == [200, 201]
    listed = await served.api.get("/v1/jobs")
    assert len(listed.json()["data"]) == 2


async def test_under_a_lease_that_the_database_was_too_slow_to_grant_nothing_is_done(plane: Plane) -> None:
    job_id = await plane.submit()
    await plane.parts.scheduler.tick()
    hasty = replace(plane.parts.reconciler, lease_seconds=0.2)
    async with plane.parts.database.writing():
        look = asyncio.create_task(hasty.tick())
        await asyncio.wait([look], timeout=0.3)
        assert not look.done()

    assert not await look
    assert plane.cluster.submission_ids == []
    await plane.parts.reconciler.tick()
    assert plane.cluster.submission_ids == [f"{job_id}-a1"]


async def _told_that_it_is_away(served: Served) -> str:
    """What Prometheus is told; a busy machine may take longer to find that out than a scrape waits."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            told = (await served.api.get("/metrics")).text
            if 'cdm_dependency_up{dependency="database"} 0.0' in told:
                return told


async def _in_the_end(call: Callable[[], Awaitable[_Found]]) -> _Found:
    """What it comes to; a busy machine may take longer than the patience that is tried here."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            with suppress(DatabaseUnavailable):
                return await call()


async def _unavailable(call: Awaitable[object]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            await call


async def _write(database: Database, value: str) -> None:
    async with database.writing() as connection:
        await connection.execute(installation.delete())
        await connection.execute(installation.insert().values(id=value))


async def _read(database: Database) -> str:
    async with database.reading() as connection:
        return str(await connection.scalar(select(installation.c.id)))
