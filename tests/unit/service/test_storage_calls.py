"""A store that takes requests and answers none holds up those who asked it, for a while, and nobody else."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from service.errors import StorageUnavailable
from service.storage import in_thread

MANY = 40  # more than it has threads


@pytest.fixture
def silent() -> Iterator[threading.Event]:
    """What a call waits for that the store does not answer."""
    answer = threading.Event()
    yield answer
    answer.set()


async def test_names_are_looked_up_while_every_call_hangs(silent: threading.Event) -> None:
    calls = [asyncio.create_task(in_thread(silent.wait)) for _ in range(MANY)]
    try:
        async with asyncio.timeout(10):
            found = await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    finally:
        silent.set()

    assert found
    assert await asyncio.gather(*calls) == [True] * MANY


async def test_nobody_waits_for_longer_than_a_minute(silent: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.storage._LONGEST_SECONDS", 0.05)

    with pytest.raises(StorageUnavailable, match=r"does not answer \(TimeoutError\): try again"):
        await in_thread(silent.wait)


async def test_what_is_not_there_is_no_failure_of_the_store() -> None:
    def missing() -> None:
        raise FileNotFoundError("a key")

    with pytest.raises(FileNotFoundError, match="a key"):
        await in_thread(missing)
