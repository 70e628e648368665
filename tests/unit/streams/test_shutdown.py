"""What is done when the process is told to end."""

import asyncio
import os
import signal
import threading

from service.streams.shutdown import on_termination


async def test_streams_hear_of_a_signal_first_and_its_handler_still_gets_it() -> None:
    told: list[str] = []
    heard = asyncio.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("server"))
    try:
        with on_termination(heard.set):
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(5):
                await heard.wait()
        assert told == ["server"]
        os.kill(os.getpid(), signal.SIGTERM)
        assert told == ["server", "server"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    handlers = []

    def inside() -> None:
        with on_termination(lambda: None):
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()

    assert handlers == [signal.getsignal(signal.SIGTERM)]
