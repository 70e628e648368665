"""The loop in the background: how often it looks."""

import asyncio
import time
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.errors import DatabaseUnavailable, StorageUnavailable
from service.jobs.loop import Loop
from tests.support.plane import eventually


async def test_it_looks_at_once_when_woken_but_one_look_serves_many_wakes() -> None:
    looks = 0

    async def tick() -> bool:
        nonlocal looks
        looks += 1
        return False

    async def woken() -> bool:
        loop.wake()
        return looks >= 3

    loop = Loop("test", tick, interval_seconds=3600.0, pause_seconds=0.1)
    began = asyncio.get_running_loop().time()
    async with loop.running():
        await eventually(woken, what="it looks three times")

    assert looks == 3
    assert asyncio.get_running_loop().time() - began >= 0.2


async def test_however_often_it_is_woken_it_rests_four_times_as_long_as_it_looks() -> None:
    looks: list[tuple[float, float]] = []
    clock = asyncio.get_running_loop().time

    async def tick() -> bool:
        began = clock()
        await asyncio.sleep(0.02)  # a look that takes a while
        looks.append((began, clock()))
        return False

    async def woken() -> bool:
        loop.wake()
        return len(looks) >= 4

    loop = Loop("test", tick, interval_seconds=10.0, pause_seconds=0.0)
    async with loop.running():
        await eventually(woken, what="it has looked four times")

    for (began, ended), (again, _) in pairwise(looks):
        assert again - ended > 3.9 * (ended - began)


async def test_it_looks_again_without_a_pause_while_there_is_more() -> None:
    looks = 0

    async def tick() -> bool:
        nonlocal looks
        looks += 1
        return looks < 50

    async def done() -> bool:
        return looks == 50

    async with Loop("test", tick, interval_seconds=3600.0, pause_seconds=3600.0).running():
        await eventually(done, what="it has looked fifty times")


async def test_it_ends_at_once_even_in_the_middle_of_a_pause() -> None:
    async def tick() -> bool:
        loop.wake()
        return False

    loop = Loop("test", tick, interval_seconds=3600.0, pause_seconds=3600.0)
    async with asyncio.timeout(5), loop.running():
        await asyncio.sleep(0)


@pytest.mark.timeout(20)
async def test_once_they_are_stopped_none_looks_again_while_others_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.jobs.loop._PATIENCE_SECONDS", 0.2)
    looks = 0

    async def long() -> None:
        await asyncio.Event().wait()

    async def short() -> bool:
        nonlocal looks
        looks += 1
        return False

    loops = [Loop(f"{tick.__name__}", tick, interval_seconds=0.01) for tick in (short, long, long, long)]
    async with AsyncExitStack() as stack:
        for loop in loops:
            await stack.enter_async_context(loop.running())
        await asyncio.sleep(0)
        before = looks
        for loop in loops:
            loop.stop()
        monkeypatch.setattr("service.jobs.loop._PATIENCE_SECONDS", 3600.0)  # whoever's began anew would not end

    assert looks <= before + 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("wrong"), {"event": "loop.failed", "log_level": "error", "exc_info": True}),
        (DatabaseUnavailable("away"), {"event": "loop.postponed", "log_level": "warning", "error": "away"}),
        (StorageUnavailable("away"), {"event": "loop.postponed", "log_level": "warning", "error": "away"}),
    ],
)
async def test_a_look_that_fails_is_told_and_followed_by_another(error: Exception, said: dict[str, Any]) -> None:
    looks = 0

    async def tick() -> bool:
        nonlocal looks
        looks += 1
        raise error

    async def again() -> bool:
        return looks >= 2

    with capture_logs() as logs:
        async with Loop("test", tick, interval_seconds=0.01).running():
            await eventually(again, what="a second look")

    assert logs[0] == {"loop": "test", **said}


@pytest.mark.parametrize(("told", "is_end"), [(None, False), (False, True)])
async def test_a_look_that_is_left_to_another_replica_is_no_end(told: bool | None, is_end: bool) -> None:
    looks = 0

    async def tick() -> bool | None:
        nonlocal looks
        looks += 1
        return told

    async def again() -> bool:
        return looks >= 3

    loop = Loop("test", tick, interval_seconds=0.01)
    made_at = time.monotonic()
    async with loop.running():
        await eventually(again, what="a third look")
    looked_at = time.monotonic()

    assert (loop.seconds_since_tick() < looked_at - made_at) is is_end
