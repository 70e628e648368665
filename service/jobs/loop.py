"""A loop in the background that looks, acts, and looks again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

log = structlog.get_logger()

_PATIENCE_SECONDS = 10.0


class Loop:
    """Calls `tick` at every interval, at once after it returned True, and when woken."""

    def __init__(self, name: str, tick: Callable[[], Awaitable[bool]], *, interval_seconds: float) -> None:
        self._name = name
        self._tick = tick
        self._interval_seconds = interval_seconds
        self._hint = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Something changed: look now rather than at the end of the interval."""
        self._hint.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run while the block lasts. A look that has begun is seen to its end, unless that takes too long."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._stopping = True
            self.wake()
            _, late = await asyncio.wait([task], timeout=_PATIENCE_SECONDS)
            for one in late:
                one.cancel()

    async def _run(self) -> None:
        while not self._stopping:
            self._hint.clear()
            try:
                if await self._tick():
                    continue
            except Exception:
                log.exception("loop.failed", loop=self._name)
            try:
                await asyncio.wait_for(self._hint.wait(), self._interval_seconds)
            except TimeoutError:
                continue
