"""A stream with nothing to tell looks less and less often, and says often enough that it is there."""

from service.streams.shutdown import Closing
from service.streams.silence import Silence


class Pauses(Closing):
    """Pauses that take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    async def pause(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def test_looks_grow_rarer_until_there_is_something_to_tell() -> None:
    pauses = Pauses()
    silence = Silence(closing=pauses, poll_seconds=1.0, ping_seconds=15.0)

    for _ in range(20):
        await silence.goes_on()
    silence.broken()
    await silence.goes_on()

    assert pauses.seconds[:3] == [1.0, 1.25, 1.5625]
    assert pauses.seconds[-3:] == [5.0, 5.0, 1.0]


async def test_comments_come_no_rarer_than_that() -> None:
    pauses = Pauses()
    silence = Silence(closing=pauses, poll_seconds=1.0, ping_seconds=15.0)

    due = [sum(pauses.seconds) for _ in range(40) if await silence.goes_on()]

    assert len(due) > 5
    assert all(later - earlier < 15 + 5 for earlier, later in zip([0.0, *due], due, strict=False))
