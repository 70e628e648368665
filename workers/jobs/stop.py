"""The wish to leave: SIGTERM or Ctrl-C sets an event, and workers leave within two seconds or so, with a checkpoint."""

import signal
from threading import Event
from types import FrameType


def set_on_signals(stop: Event) -> None:
    """Set it on SIGTERM or Ctrl-C; a second Ctrl-C acts as if nobody listened.

    Another SIGTERM says nothing new: Slurm sends one to every process of a step, and torchrun passes its own on.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's signature
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
