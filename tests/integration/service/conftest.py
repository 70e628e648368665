"""Logs as in production; structlog's default renders every traceback with all its local variables, in seconds."""

import pytest

from service.web.logs import configure_logging


@pytest.fixture(scope="session", autouse=True)
def logging() -> None:
    configure_logging()
