"""An object store for tests that need a real one."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.support.seaweed import Seaweed, seaweed


@pytest.fixture(scope="module")
def server() -> Iterator[Seaweed]:
    with seaweed() as server:
        yield server


@pytest.fixture
def place(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of a bucket that nobody used before, to which the environment has the key."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{server.bucket}/{uuid4()}"
