"""Fixtures of databases; a conftest imports them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import fault_injection as injection_support
from tests.support import postgres as postgres_support
from tests.support.fault_injection import FaultInjection
from tests.support.fork_server import ForkServer, fork_server
from tests.support.fresh_databases import Databases, PostgresDatabases, SqliteFiles, migrate
from tests.support.postgres import Postgres

_AT_A_TIME = 2


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    if postgres_support.binaries() is None:
        pytest.skip(postgres_support.INSTALL)
    with postgres_support.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_on_postgres(postgres: Postgres) -> str:
    url = postgres.new_database()
    migrate(url)
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Databases:
    """Each test runs on both kinds."""
    return _databases(request, request.param, tmp_path)


@pytest.fixture
def postgres_databases(postgres: Postgres, migrated_on_postgres: str) -> PostgresDatabases:
    """For what only Postgres can do."""
    return PostgresDatabases(postgres, migrated_on_postgres)


@pytest.fixture
def database_url(databases: Databases) -> str:
    """A fresh database of each kind."""
    return databases.migrated()


@pytest.fixture(scope="session")
def failpoints() -> dict[str, list[str]]:
    """The failpoints of each scenario, found out once."""
    return {}


@pytest.fixture(scope="session")
def fork_servers() -> Iterator[list[ForkServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(fork_server()) for _ in range(_AT_A_TIME)]


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def fault_injection(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    fork_servers: list[ForkServer],
    failpoints: dict[str, list[str]],
) -> FaultInjection:
    """Processes to be killed, on both kinds."""
    folder = tmp_path_factory.mktemp(f"fault_injection-{request.param}")
    databases = _databases(request, request.param, folder)
    urls = [databases.migrated() for _ in fork_servers]
    return injection_support.fault_injection(
        request.param, folder, urls, fork_servers=fork_servers, failpoints=failpoints
    )


@pytest.fixture(scope="session")
def replicas(
    postgres: Postgres,
    migrated_on_postgres: str,
    tmp_path_factory: pytest.TempPathFactory,
    fork_servers: list[ForkServer],
    failpoints: dict[str, list[str]],
) -> FaultInjection:
    """Processes that share a database."""
    folder, databases = tmp_path_factory.mktemp("replicas"), PostgresDatabases(postgres, migrated_on_postgres)
    urls = [databases.migrated() for _ in fork_servers]
    return injection_support.fault_injection("postgres", folder, urls, fork_servers=fork_servers, failpoints=failpoints)


def _databases(request: pytest.FixtureRequest, kind: str, folder: Path) -> Databases:
    if kind == "sqlite":
        return SqliteFiles(folder)
    url = request.getfixturevalue("migrated_on_postgres")
    return PostgresDatabases(request.getfixturevalue("postgres"), url)
