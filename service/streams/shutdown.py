"""Streams must end when the process is told to, or the server waits for them: it ends the lifespan only after that."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Closing:
    """Whether the service ends, and a sleep that does not outlast it."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    @property
    def has_begun(self) -> bool:
        return self._begun.is_set()

    def begin(self) -> None:
        self._begun.set()

    async def pause(self, seconds: float) -> None:
        """Sleep, but not past the end of the service."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._begun.wait()


@contextmanager
def on_termination(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` in the running event loop at SIGINT or SIGTERM, before whoever handled these until now.

    Signals reach the main thread only; elsewhere this does nothing, and streams are cancelled by the server.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        elif handler is signal.SIG_DFL:
            signal.signal(number, handler)
            signal.raise_signal(number)

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
