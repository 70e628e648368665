"""Fixtures of databases; a conftest imports them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import endurance as endured
from tests.support import postgres as postgres_support
from tests.support.endurance import Endurance
from tests.support.fresh_databases import Databases, PostgresDatabases, SqliteFiles, migrate
from tests.support.killable import Nursery, nursery
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
def lived() -> dict[str, list[str]]:
    """The points of each story, found out once."""
    return {}


@pytest.fixture(scope="session")
def nurseries() -> Iterator[list[Nursery]]:
    with ExitStack() as stack:
        yield [stack.enter_context(nursery()) for _ in range(_AT_A_TIME)]


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def endurance(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    nurseries: list[Nursery],
    lived: dict[str, list[str]],
) -> Endurance:
    """Processes to be killed, on both kinds."""
    folder = tmp_path_factory.mktemp(f"endurance-{request.param}")
    databases = _databases(request, request.param, folder)
    urls = [databases.migrated() for _ in nurseries]
    return endured.endurance(request.param, folder, urls, nurseries=nurseries, lived=lived)


@pytest.fixture(scope="session")
def replicas(
    postgres: Postgres,
    migrated_on_postgres: str,
    tmp_path_factory: pytest.TempPathFactory,
    nurseries: list[Nursery],
    lived: dict[str, list[str]],
) -> Endurance:
    """Processes that share a database."""
    folder, databases = tmp_path_factory.mktemp("replicas"), PostgresDatabases(postgres, migrated_on_postgres)
    urls = [databases.migrated() for _ in nurseries]
    return endured.endurance("postgres", folder, urls, nurseries=nurseries, lived=lived)


def _databases(request: pytest.FixtureRequest, kind: str, folder: Path) -> Databases:
    if kind == "sqlite":
        return SqliteFiles(folder)
    url = request.getfixturevalue("migrated_on_postgres")
    return PostgresDatabases(request.getfixturevalue("postgres"), url)
