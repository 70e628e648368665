"""The wish to leave: SIGTERM or Ctrl-C sets a flag, and training leaves at its next report, with a checkpoint."""

import signal
import threading
from types import FrameType

import structlog

log = structlog.get_logger()


class StopFlag:
    """Set once, never cleared."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def listen(self) -> None:
        """Set the flag on the first signal; a second one acts as if nobody listened."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self) -> None:
        self._event.wait()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's signature
        signal.signal(number, signal.SIG_DFL)
        self._event.set()
