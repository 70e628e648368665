"""The databases that stores are tested on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.postgres import binaries, postgres

KINDS = ("sqlite", "postgresql")

NewDatabase = Callable[[Path], str]  # the URL of an empty database, which may lie in a folder


@contextmanager
def databases(kind: str) -> Iterator[NewDatabase]:
    """Real ones; tests of Postgres are skipped where there is none."""
    if kind == "sqlite":
        yield lambda folder: f"sqlite+aiosqlite:///{folder / 'service.db'}"
    elif binaries() is None:
        pytest.skip("no Postgres here")
    else:
        with postgres() as server:
            yield lambda _: server.new_database()
