"""Slow tests of what survives: `make test-chaos`."""

import pytest

from service.web.logs import configure_logging
from tests.support.database_fixtures import (
    endurance,
    lived,
    migrated_on_postgres,
    nurseries,
    postgres,
    replicas,
    sqlite_template,
)
from tests.support.tally import pytest_terminal_summary, tally

__all__ = [
    "endurance",
    "lived",
    "migrated_on_postgres",
    "nurseries",
    "postgres",
    "pytest_terminal_summary",
    "replicas",
    "sqlite_template",
    "tally",
]


@pytest.fixture(scope="session", autouse=True)
def logging() -> None:
    configure_logging()
