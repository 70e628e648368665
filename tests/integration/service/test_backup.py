"""A database put back as it was hours ago, while drivers went on: what it lacks is in the object store."""

import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.engine import make_url

from service.cluster import MemoryCluster
from service.cluster.base import RunStatus
from service.database import backup
from service.database.tables import audit, webhooks
from service.errors import BackupRefused, JobGone
from service.jobs.queueing import Quota
from service.jobs.rebuild import rebuild
from service.keys.store import KeyStore
from service.keys.usecases import Keys
from service.keys.views import ApiKeyCreate, ProjectCreate
from service.web.addresses import INSIDE, AddressGuard
from service.web.auth import Authenticator
from service.web.views import Scope
from service.webhooks.store import WebhookStore
from service.webhooks.usecases import Webhooks
from service.webhooks.views import WebhookCreate
from tests.support.clock import ManualClock
from tests.support.fresh_databases import Databases, PostgresDatabases
from tests.support.plane import REQUESTER, Plane, Script, plane_in, until_run
from tests.support.postgres import binaries
from workers.storage.memory import MemoryStore


@dataclass
class Site:
    """One installation: its engine and its object store outlive its database."""

    folder: Path
    databases: Databases
    script: Script
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.cluster = MemoryCluster(self.script)
        self.url = self.databases.migrated()

    @asynccontextmanager
    async def plane(self) -> AsyncIterator[Plane]:
        opened = plane_in(self.folder, cluster=self.cluster, store=self.store, clock=self.clock, database_url=self.url)
        async with opened as plane:
            yield plane

    def save(self) -> None:
        """Beside the running service, by what operators use."""
        if isinstance(self.databases, PostgresDatabases):
            _postgres("pg_dump", "--format=custom", f"--file={self.folder / 'copy'}", _plain(self.url))
        else:
            backup.save(self.url, self.folder / "copy")

    def put_back(self) -> None:
        """In place of the database, which is lost."""
        self.url = self.databases.empty()
        if isinstance(self.databases, PostgresDatabases):
            _postgres("pg_restore", f"--dbname={_plain(self.url)}", str(self.folder / "copy"))
        else:
            backup.put_back(self.url, self.folder / "copy")

    async def lose_driver(self, plane: Plane, submission_id: str) -> None:
        self.script.exit(submission_id, 137)
        await until_run(plane, submission_id, RunStatus.FAILED)
        await plane.settle()


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _postgres(program: str, *arguments: str) -> None:
    folder = binaries()
    assert folder
    subprocess.run([str(folder / program), *arguments], check=True)


@pytest.fixture
def site(tmp_path: Path, databases: Databases, script: Script) -> Site:
    return Site(tmp_path, databases, script)


async def trains(plane: Plane, job_id: str, attempt: int) -> None:
    worker = plane.worker(job_id, attempt)
    assert worker.claim(at=plane.clock())
    worker.progress(at=plane.clock())
    await plane.settle()


async def test_a_database_of_before_learns_what_has_become_of_jobs_since(site: Site) -> None:
    async with site.plane() as plane:
        lost, cancelled, deleted = [await plane.submit() for _ in range(3)]
        await plane.settle()
        await trains(plane, lost, 1)
        untouched = await plane.submit(name="as it was", labels={"team": "x"})
        await plane.service.pause(untouched, requester=REQUESTER)
        await plane.aftercare.tick()
        site.save()
        before = await plane.job(untouched)

        await site.lose_driver(plane, f"{lost}-a1")
        await trains(plane, lost, 2)
        for job_id in (cancelled, deleted):
            await plane.cancel(job_id, mode="now")
        await plane.settle()
        await plane.service.delete(deleted, requester=REQUESTER, purge=())
        later = await plane.submit()
        await plane.settle()
        await plane.aftercare.tick()
        submitted, last = site.cluster.submission_ids, (await plane.job(lost)).event_sequence

    site.put_back()
    async with site.plane() as plane:
        assert ((await plane.job(lost)).state, (await plane.job(lost)).attempt) == ("running", 1)

        assert await rebuild(plane.jobs, plane.objects, now=plane.clock()) == (4, [])
        assert await rebuild(plane.jobs, plane.objects, now=plane.clock()) == (0, [])
        await plane.settle()

        assert ((await plane.job(lost)).state, (await plane.job(lost)).attempt) == ("running", 2)
        assert (await plane.job(lost)).event_sequence == last + 1
        assert [attempt.reason for attempt in await plane.jobs.attempts(lost)] == ["driver_lost", None]
        assert (await plane.job(cancelled)).state == "cancelled"
        assert (await plane.job(later)).state == "starting"
        assert await plane.job(untouched) == before
        with pytest.raises(JobGone):
            await plane.job(deleted)
        assert site.cluster.submission_ids == submitted, "nothing was run twice"

        await plane.end(lost)
        assert (await plane.job(lost)).state == "succeeded"


async def test_an_attempt_that_neither_the_database_nor_the_copy_knows_is_found_by_its_claim(site: Site) -> None:
    async with site.plane() as plane:
        job_id = await plane.started()
        plane.worker(job_id).claim(at=plane.clock())
        await plane.aftercare.tick()
        site.save()
        await site.lose_driver(plane, f"{job_id}-a1")
        await trains(plane, job_id, 2)

    site.put_back()
    async with site.plane() as plane:
        assert await rebuild(plane.jobs, plane.objects, now=plane.clock()) == (1, [])
        await plane.settle()

        assert ((await plane.job(job_id)).state, (await plane.job(job_id)).attempt) == ("running", 2)
        assert site.cluster.submission_ids == [f"{job_id}-a1", f"{job_id}-a2"]


async def test_even_a_database_that_learned_nothing_takes_no_number_twice_and_ends_what_it_does_not_know(
    site: Site,
) -> None:
    """Work is lost then, and nothing else: the fence is in the object store."""
    async with site.plane() as plane:
        job_id = await plane.started()
        plane.worker(job_id).claim(at=plane.clock())
        site.save()
        await site.lose_driver(plane, f"{job_id}-a1")
        await trains(plane, job_id, 2)

    site.put_back()
    async with site.plane() as plane:
        plane.clock.advance(2 * plane.settings.lease_seconds)  # those of the copy, which no rebuild has freed
        await plane.settle()
        assert (await plane.job(job_id)).attempt == 3
        assert site.cluster.submission_ids == [f"{job_id}-a{number}" for number in (1, 2, 3)]

        await plane.parts.sweep.tick()
        await until_run(plane, f"{job_id}-a2", RunStatus.STOPPED)


async def test_a_job_that_moves_while_it_is_looked_at_is_left_alone(site: Site) -> None:
    async with site.plane() as plane:
        job_id = await plane.started()
        known = await plane.job(job_id)
        await plane.cancel(job_id)
        moved = await plane.job(job_id)

        assert not await plane.jobs.restore(known, [], known=known, at=plane.clock())

        assert await plane.job(job_id) == moved


async def test_keys_webhooks_projects_and_the_audit_are_there_again(site: Site) -> None:
    async with site.plane() as plane:
        keys = Keys(store=KeyStore(plane.parts.database), clock=plane.clock)
        await keys.store.ensure_default_project(now=plane.clock())
        await keys.create_project(ProjectCreate(name="vision", max_workers=4), requester=REQUESTER)
        made = await keys.create_key(
            ApiKeyCreate(scopes=(Scope.READ,), project="vision"),
            project="default",
            requester=REQUESTER,
            reserved_ulid=None,
        )
        guard = AddressGuard(networks=INSIDE)
        hooks = Webhooks(store=WebhookStore(plane.parts.database), guard=guard, clock=plane.clock)
        hook = await hooks.create(WebhookCreate(url="http://127.0.0.1:9/"), requester=REQUESTER, reserved_ulid=None)
        site.save()

    site.put_back()
    async with site.plane() as plane:
        database = plane.parts.database
        door = Authenticator(database, bootstrap_key=SecretStr("x" * 16), identity_provider=None, clock=plane.clock)
        assert (await door.principal(f"Bearer {made.key}")).project == "vision"
        assert (await plane.jobs.quotas())["vision"] == Quota(max_workers=4)
        async with database.reading() as connection:
            assert (await connection.execute(select(webhooks.c.id, webhooks.c.secret))).all() == [
                (hook.id, hook.secret)
            ]
            actions = set(await connection.scalars(select(audit.c.action)))
        assert {"project.create", "api_key.create", "webhook.create"} <= actions


def sqlite(folder: Path, name: str = "service.db") -> str:
    return f"sqlite:///{folder / name}"


def a_database(path: Path, *tables: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for table in tables:
            connection.execute(f"CREATE TABLE {table} (id TEXT)")


def test_a_copy_is_for_its_owner_only_and_replaces_nothing(tmp_path: Path) -> None:
    a_database(tmp_path / "service.db", "jobs", "api_keys")
    backup.save(sqlite(tmp_path), tmp_path / "copy")

    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    with pytest.raises(BackupRefused, match="is there already"):
        backup.save(sqlite(tmp_path), tmp_path / "copy")
    with pytest.raises(BackupRefused, match=r"service\.db is there: move service\.db\* away first"):
        backup.put_back(sqlite(tmp_path), tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "service.db", "service.db.lock"]


def test_the_log_of_another_database_is_not_taken_for_that_of_the_copy(tmp_path: Path) -> None:
    a_database(tmp_path / "copy", "jobs", "api_keys")
    (tmp_path / "service.db-wal").write_bytes(b"of a database that is gone")

    with pytest.raises(BackupRefused, match=r"service\.db-wal is there"):
        backup.put_back(sqlite(tmp_path), tmp_path / "copy")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "there is no file"),
        (lambda path: path.write_bytes(b"something else, long enough to be a database" * 30), "no backup that can be"),
        (lambda path: path.write_bytes(b""), "no backup of a service"),
        (lambda path: a_database(path, "cakes"), "no backup of a service"),
    ],
    ids=["missing", "no database", "empty", "of something else"],
)
def test_what_is_no_copy_is_refused_and_leaves_no_database(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / "copy")

    with pytest.raises(BackupRefused, match=reason):
        backup.put_back(sqlite(tmp_path), tmp_path / "copy")

    assert not (tmp_path / "service.db").exists()


def test_of_postgres_the_tools_that_do_it_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackupRefused, match="use pg_dump and pg_restore"):
        backup.save("postgresql+asyncpg://cdm@nowhere/cdm", tmp_path / "copy")
