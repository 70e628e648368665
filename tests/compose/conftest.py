"""One stack for all these tests, and what they ask of its jobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.client import Client
from tests.support.compose import Compose, compose_stack, why_not


@pytest.fixture(scope="session")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Built, healthy, and of two Ray nodes."""
    if reason := why_not():
        pytest.skip(reason)
    folder: Path = tmp_path_factory.mktemp("checkout")
    with compose_stack(folder) as stack:
        stack.run("build")
        stack.up("--scale", "ray-worker=2")
        yield stack


@pytest.fixture
def client(compose: Compose) -> Iterator[Client]:
    with compose.client() as client:
        yield client
