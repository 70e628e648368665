"""A loop in the background that looks, acts, and looks again."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from service.errors import DatabaseUnavailable, StorageUnavailable
from service.storage import begin_own_work

log = structlog.get_logger()

Tick = Callable[[], Awaitable[bool | None]]

_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.2
_PAUSE_PER_LOOK = 4.0  # times as long: however much there is to see, a loop leaves four fifths of the time to requests


class Loop:
    """Calls `tick` at every interval, at once after it returned True, and when woken.

    `tick` returns True if there is more to do, False if not, and None if the work is another replica's. None is no end
    of a look of this replica (`seconds_since_tick`), or a replica that is stuck would look healthy.

    From one look to the next it pauses for `pause_seconds`, or longer if looking takes long, however often it is woken:
    one look finds what many did.
    """

    def __init__(
        self,
        name: str,
        tick: Tick,
        *,
        interval_seconds: float,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        self.name = name
        self.tick = tick
        self._interval_seconds = interval_seconds
        self._pause_seconds = min(pause_seconds, interval_seconds)
        self._hint = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ticked_at = time.monotonic()
        self._patient_until = 0.0

    def seconds_since_tick(self) -> float:
        """How long ago it last came to the end of a look that was its own."""
        return time.monotonic() - self._ticked_at

    def wake(self) -> None:
        """Something changed: look now rather than at the end of the interval."""
        self._hint.set()

    def stop(self) -> None:
        """Begin no other look. Where there are several loops, all are stopped before one of them is waited for."""
        if not self._stopping.is_set():
            self._patient_until = time.monotonic() + _PATIENCE_SECONDS
            self._stopping.set()
            self.wake()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run while the block lasts. A look that has begun is seen to its end, unless that takes too long."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self.stop()
            _, late = await asyncio.wait([task], timeout=max(0.0, self._patient_until - time.monotonic()))
            for one in late:
                one.cancel()

    async def _run(self) -> None:
        begin_own_work()
        while not self._stopping.is_set():
            self._hint.clear()
            began = time.monotonic()
            try:
                moved = await self.tick()
                if moved is not None:
                    self._ticked_at = time.monotonic()
                if moved:
                    continue
            except (DatabaseUnavailable, StorageUnavailable) as error:
                # Said by all loops, again and again, for as long as it lasts.
                log.warning("loop.postponed", loop=self.name, error=error.detail)
            except Exception:
                log.exception("loop.failed", loop=self.name)
            took = time.monotonic() - began
            pause = max(self._pause_seconds - took, min(_PAUSE_PER_LOOK * took, self._interval_seconds))
            earliest = time.monotonic() + pause
            await _within(self._interval_seconds, self._hint)
            await _within(earliest - time.monotonic(), self._stopping)


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for it, but no longer than this."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
