"""The wish to leave: SIGTERM or Ctrl-C sets an event, and workers leave within two seconds or so, with a checkpoint."""

import signal
from threading import Event
from types import FrameType


def set_on_signals(stop: Event) -> None:
    """Set it on the first signal; a second one acts as if nobody listened."""

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's signature
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
