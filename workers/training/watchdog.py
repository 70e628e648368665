"""Ends a process whose training stands still, and says where it stood: what waits for ever cannot be restarted."""

import math
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import structlog

log = structlog.get_logger()

EXIT_HUNG = 87
HUNG = "training.hung"  # in the last line of a log that a watchdog has ended

_LOOK_EVERY_SECONDS = 1.0
_LAST_WORDS_SECONDS = 30.0


class Watchdog:
    """Looks from a thread of its own whether `images_seen`, which training sets after every step, has changed.

    The first step has a patience of its own: compiling may take its time. It counts its own looks, so that a process
    that was frozen and goes on is not taken for hung. A frozen process cannot look, nor can one in a call that keeps
    the interpreter's lock; the watchdogs of the processes that wait for it end the group.
    """

    images_seen: int | None = None
    beats: int = 0  # signs of life within a step that may take long

    def __init__(
        self,
        seconds: float,
        on_hang: Callable[[str], object],
        *,
        first_seconds: float = math.inf,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """After `seconds` without a step, `on_hang` gets the stacks of all threads, and `end` the exit code.

        Until the first step it is after `first_seconds`.
        """
        self._seconds, self._first_seconds = seconds, first_seconds
        self._on_hang, self._end = on_hang, end
        self._every_seconds = min(_LOOK_EVERY_SECONDS, seconds / 10)
        self._seen_before: tuple[int | None, int] = (None, 0)
        self._still_seconds = 0.0
        self._is_paused = False
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, no steps are expected; what hangs there with others ends at their collective's time-out."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def beat(self) -> None:
        """Something has been computed within a step that may take long."""
        self.beats += 1

    def is_hung(self, passed_seconds: float) -> bool:
        """Take a look, so long after the one before."""
        seen = (self.images_seen, self.beats)
        waits = seen == self._seen_before and not self._is_paused
        self._still_seconds = self._still_seconds + passed_seconds if waits else 0.0
        self._seen_before = seen
        return self._still_seconds >= self._patience

    @property
    def _patience(self) -> float:
        return self._first_seconds if self.images_seen is None else self._seconds

    def _run(self) -> None:
        while not self._over.wait(self._every_seconds):
            if self.is_hung(self._every_seconds):
                self._give_up()
                return

    def _give_up(self) -> None:
        """Nothing here may keep the process: the store or a pipe may be what hangs."""
        try:
            telling = threading.Thread(target=self._tell, name="last-words", daemon=True)
            telling.start()
            telling.join(_LAST_WORDS_SECONDS)
        finally:
            self._end(EXIT_HUNG)

    def _tell(self) -> None:
        words = f"{stacks()}error: {HUNG}: {self._reason()}; this process ends, so that training can go on\n"
        self._on_hang(words)
        log.error(HUNG, images_seen=self.images_seen, seconds=self._patience)
        sys.stderr.write(words)

    def _reason(self) -> str:
        if self.images_seen is None:
            return f"no first step for {self._patience:g} s (compute.start_seconds)"
        return f"no step for {self._patience:g} s (compute.hang_seconds) after {self.images_seen} images"


def reason_of(log_text: str) -> str | None:
    """Why a watchdog has ended the process whose log this is; None if none has."""
    last = next(reversed(log_text.splitlines()), "")
    return last.partition(f"{HUNG}: ")[2].partition(";")[0] or None


def stacks() -> str:
    """What every thread of this process is doing, the innermost call last.

    No source file is read for it: those may lie on a file system that does not answer.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "".join(
        f"Thread {names.get(ident, ident)}:\n"
        + "".join(
            f'  File "{each.f_code.co_filename}", line {line}, in {each.f_code.co_qualname}\n'
            for each, line in reversed(list(traceback.walk_stack(frame)))
        )
        for ident, frame in sys._current_frames().items()
    )
