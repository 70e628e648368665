"""Bringing a database up to date: from nothing, from the first release, and by several replicas at once."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Integer, text
from sqlalchemy.engine import make_url
from sqlalchemy.types import TypeEngine

from service.database import Database, migrations, open_database
from service.database.inline import open_sqlite
from service.database.postgres import open_postgres
from service.database.tables import metadata
from service.errors import DatabaseUnavailable
from service.jobs.listing import Filters
from service.jobs.store import JobStore
from tests.support.first_tables import FIRST_TABLES
from tests.support.fresh_databases import Databases, sqlite_url
from tests.support.plane import DEADLINE_SECONDS
from tests.support.postgres import Postgres
from workers.contract.presets import PRESETS

OPEN = """
import asyncio, sys
from service.database import open_database
async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    async with open_database(sys.argv[1]) as database:
        async with database.reading() as connection:
            await connection.exec_driver_sql("SELECT purge_due FROM jobs")
asyncio.run(main())
"""


@asynccontextmanager
async def as_it_is(url: str) -> AsyncIterator[Database]:
    """Opened without being brought up to date."""
    place = make_url(url)
    if place.get_backend_name() == "sqlite":
        file = open_sqlite(place)
        yield Database(file)
        file.dispose()
    else:
        async with open_postgres(url, idle_seconds=10.0, patience_seconds=15.0, migrating=True) as server:
            yield Database(server)


async def test_the_migrations_make_the_tables_that_the_code_speaks_of(databases: Databases) -> None:
    url = databases.empty()
    async with open_database(url):
        pass

    async with as_it_is(url) as database, database.reading() as connection:
        differences = await connection.run_sync(_differences)

    assert differences == []


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": _is_other_type})
    return list(compare_metadata(context, metadata))


def _is_other_type(
    context: MigrationContext, _column: object, _other: object, found: TypeEngine[Any], wanted: TypeEngine[Any]
) -> bool | None:
    all_wide = context.dialect.name == "sqlite" and isinstance(found, Integer) and isinstance(wanted, Integer)
    return False if all_wide else None  # None = compare as usual


async def test_opening_again_changes_nothing_and_keeps_what_was_written(databases: Databases) -> None:
    url = databases.empty()
    async with open_database(url) as database, database.writing() as connection:
        await connection.exec_driver_sql("INSERT INTO installation (id) VALUES ('us')")

    async with open_database(url) as database, database.reading() as connection:
        assert (await connection.exec_driver_sql("SELECT id FROM installation")).scalars().all() == ["us"]


async def test_a_release_works_with_the_tables_of_a_later_one(databases: Databases) -> None:
    """It may be gone back to, and one of its replicas may start again while they are replaced."""
    url = databases.empty()
    async with open_database(url) as database, database.writing() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        await connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN later VARCHAR")

    async with open_database(url) as database:
        assert await JobStore(database).active() == []

    assert await _versions(url) == ["9999"]


async def test_a_file_of_the_first_release_is_brought_up_to_date_with_all_its_rows(tmp_path: Path) -> None:
    """It had no migrations; what a job asks for was in its document only, and a cancellation in its state only."""
    file, at = tmp_path / "service.db", "2026-10-01T12:00:00.000000+00:00"
    spec = PRESETS["smoke"].model_dump_json()
    with sqlite3.connect(file) as old:
        old.executescript(FIRST_TABLES)
        for state in ("queued", "running", "cancelling", "failed"):
            row = (f"job_{state}", state, spec, "0" * 64, at, int(state != "queued"))
            old.execute(
                "INSERT INTO jobs (id, state, spec, spec_sha256, created_at, attempt, fruitless_attempts)"
                " VALUES (?, ?, ?, ?, ?, ?, 0)",
                row,
            )
            old.execute("INSERT INTO events VALUES (?, 1, 'created', 'queued', 0, NULL, NULL, ?)", (f"job_{state}", at))
        old.execute("INSERT INTO events VALUES ('job_running', 2, 'state_changed', 'running', 1, NULL, NULL, ?)", (at,))
        old.execute(
            "INSERT INTO attempts (job_id, number, submission_id, nonce, created_at, from_images)"
            " VALUES ('job_running', 1, 'job_running-a1', 'nonce', ?, 160)",
            (at,),
        )
    old.close()

    async with open_database(sqlite_url(file)) as database:
        store = JobStore(database)
        found = {str(job.state): job for job in await store.page(Filters(project="default"), limit=10)}
        [attempt] = await store.attempts("job_running")
        events = await store.events("job_running", after=0, limit=10)

    assert set(found) == {"queued", "running", "cancelling", "failed"}
    assert {(job.accelerator, job.workers) for job in found.values()} == {("cpu", 2)}
    assert [job.event_sequence for job in found.values() if job.id == "job_running"] == [2]
    assert [event.sequence for event in events] == [1, 2]
    assert (attempt.nonce, attempt.from_images, attempt.session) == ("nonce", 160, None)
    assert found["queued"].queued_at == found["queued"].created_at
    assert found["cancelling"].intent == "cancel"
    assert found["cancelling"].stop_by
    assert found["running"].intent is None


async def test_jobs_of_before_there_were_kinds_are_trainings(databases: Databases) -> None:
    url = databases.empty()
    spec = PRESETS["smoke"].model_dump_json()
    at = datetime(2026, 11, 1, 12, tzinfo=UTC)
    async with as_it_is(url) as database, database.writing() as connection:
        await connection.run_sync(_migrated_to, "0004")
        given = {"spec": spec, "at": at.isoformat(timespec="microseconds"), "sha": "0" * 64}
        for state in ("queued", "running", "succeeded"):
            await connection.execute(text(_JOB_OF_0004), {**given, "id": f"job_{state}", "state": state})

    async with open_database(url) as database:
        store = JobStore(database)
        found = await store.page(Filters(project="default", kind="train"), limit=10)
        others = await store.page(Filters(project="default", kind="sample"), limit=10)
        to_ask = await store.with_dataset_due()

    assert {job.id for job in found} == {"job_queued", "job_running", "job_succeeded"}
    assert {(job.kind, job.spec, job.created_at, job.purge_due, job.owner) for job in found} == {
        ("train", spec, at, (), None)
    }
    assert others == []
    assert {job.id for job in to_ask} == {"job_running", "job_succeeded"}, "which images they are about"


_JOB_OF_0004 = """
INSERT INTO jobs (id, project, labels, priority, spec, spec_sha256, accelerator, workers, state, created_at, attempt,
                  conditions)
VALUES (:id, 'default', '{}', 1, :spec, :sha, 'cpu', 2, :state, :at, 1, '{}')
"""


def _migrated_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0])))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def test_replicas_that_start_at_once_migrate_once(postgres: Postgres) -> None:
    url = postgres.new_database()
    replicas = [
        subprocess.Popen([sys.executable, "-c", OPEN, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]

    for replica in replicas:
        assert replica.stdout
        assert replica.stdout.readline() == "ready\n"
    for replica in replicas:
        replica.communicate("go\n")

    assert [replica.returncode for replica in replicas] == [0, 0, 0]
    assert asyncio.run(_versions(url)) == ["0014"]


async def test_a_migration_that_would_wait_for_a_table_fails_and_keeps_nobody_from_it(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes later would wait behind it, for as long as a dump takes, say."""
    monkeypatch.setattr("service.database.schema._LOCK_SECONDS", 0.1)
    url = postgres.new_database()
    async with as_it_is(url) as database, as_it_is(url) as other:
        async with database.writing() as connection:
            await connection.run_sync(_migrated_to, "0011")
        async with other.writing() as connection:
            await connection.execute(text("LOCK TABLE jobs IN ROW EXCLUSIVE MODE"))
            with pytest.raises(DatabaseUnavailable):
                async with open_database(url, patience_seconds=DEADLINE_SECONDS):
                    pass

    async with open_database(url):
        assert await _versions(url) == ["0014"]


async def _versions(url: str) -> list[str]:
    async with as_it_is(url) as database, database.reading() as connection:
        return list(await connection.scalars(text("SELECT version_num FROM alembic_version")))
