"""Slow tests of what survives: `make test-chaos`."""

import pytest

from service.web.logs import configure_logging
from tests.support.database_fixtures import (
    failpoints,
    fault_injection,
    fork_servers,
    migrated_on_postgres,
    postgres,
    replicas,
)
from tests.support.whole_stack import stack

__all__ = [
    "failpoints",
    "fault_injection",
    "fork_servers",
    "migrated_on_postgres",
    "postgres",
    "replicas",
    "stack",
]


@pytest.fixture(scope="session", autouse=True)
def logging() -> None:
    configure_logging()
