"""One result for many who ask: how often it is found out."""

import asyncio

import pytest

from service.web.shared import Shared


class Source:
    """Counts how often it is asked, and answers when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.breaks = False
        self.now = 0.0
        self.shared = Shared(self.find, now=lambda: self.now)

    async def find(self) -> int:
        self.asked += 1
        await self.may_answer.wait()
        if self.breaks:
            raise RuntimeError("away")
        return self.asked


async def test_all_who_ask_at_the_same_time_share_one_result() -> None:
    source = Source()
    asking = [asyncio.create_task(source.shared()) for _ in range(100)]
    await asyncio.sleep(0)
    source.may_answer.set()

    assert await asyncio.gather(*asking) == [1] * 100


async def test_a_result_serves_until_a_second_after_it_was_found() -> None:
    source = Source()
    asking = asyncio.create_task(source.shared())
    await asyncio.sleep(0)
    source.now = 5.0  # so long it took
    source.may_answer.set()
    assert await asking == 1

    source.now = 5.9
    assert await source.shared() == 1
    source.now = 6.0
    assert await source.shared() == 2


async def test_a_failure_is_shared_and_does_not_last() -> None:
    source = Source()
    source.breaks = True
    source.may_answer.set()

    for _ in range(2):
        with pytest.raises(RuntimeError, match="away"):
            await source.shared()
    assert source.asked == 1

    source.now, source.breaks = 1.0, False
    assert await source.shared() == 2


async def test_who_hangs_up_does_not_end_it_for_the_others() -> None:
    source = Source()
    impatient, patient = (asyncio.create_task(source.shared()) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    source.may_answer.set()

    assert await patient == 1
