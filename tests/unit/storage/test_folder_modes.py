"""Who may read a store that is a folder is for the umask to say, as with all that a user's programs write."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.storage import open_store


@pytest.fixture(params=[0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_are_as_readable_as_their_folders(tmp_path: Path, umask: int) -> None:
    store = open_store((tmp_path / "runs").as_uri())

    store.put("jobs/a/spec.json", b"{}")
    store.put_if_absent("jobs/a/claim.json", b"{}")

    for name in ("spec.json", "claim.json"):
        assert (tmp_path / "runs/jobs/a" / name).stat().st_mode & 0o777 == 0o666 & ~umask
