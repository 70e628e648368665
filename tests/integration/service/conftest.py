"""A control plane and databases for tests. Logs are as in production: structlog's default takes seconds a traceback."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.cluster import MemoryCluster
from service.database import Database, open_database
from service.web.logs import configure_logging
from tests.support.database_fixtures import (
    database_url,
    databases,
    failpoints,
    fault_injection,
    fork_servers,
    migrated_on_postgres,
    postgres,
    postgres_databases,
    replicas,
)
from tests.support.mail import inbox, mail
from tests.support.plane import Plane, Script, Served, plane_in, served_in

__all__ = [
    "database_url",
    "databases",
    "failpoints",
    "fault_injection",
    "fork_servers",
    "inbox",
    "mail",
    "migrated_on_postgres",
    "postgres",
    "postgres_databases",
    "replicas",
]


@pytest.fixture(scope="session", autouse=True)
def logging() -> None:
    configure_logging()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def plane(tmp_path: Path, script: Script) -> AsyncIterator[Plane]:
    async with plane_in(tmp_path, cluster=MemoryCluster(script)) as plane:
        yield plane


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_in(tmp_path) as served:
        yield served


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty one, of the current release."""
    async with open_database(database_url) as database:
        yield database
