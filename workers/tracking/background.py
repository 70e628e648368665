"""A thread that delivers things, so that whoever has something to say need not wait."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")
log = structlog.get_logger()

_BATCH = 500
_LONGEST_PAUSE_SECONDS = 30.0
_PAUSE_WHEN_CLOSING_SECONDS = 0.5


class Background(Generic[T]):
    """Hands items to `deliver` in order, in batches, on its own thread, and again after a pause if that fails.

    Memory is bounded: beyond `capacity` waiting items the oldest is dropped, and counted. `deliver` sees a batch again
    after a failure, so it must be idempotent.
    """

    def __init__(
        self, name: str, deliver: Callable[[list[T]], None], *, capacity: int = 20_000, every_seconds: float = 1.0
    ) -> None:
        self._name = name
        self._deliver = deliver
        self._every_seconds = every_seconds
        self._waiting: deque[T] = deque()
        self._in_flight: list[T] = []
        self._capacity = capacity
        self._num_dropped = 0
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: T) -> None:
        """Take an item for delivery. Never waits for a delivery, never raises."""
        with self._changed:
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self._num_dropped += 1
            self._waiting.append(item)
            self._changed.notify()

    def close(self, timeout_seconds: float) -> int:
        """Deliver what is left, for at most so long; return how many items never arrived."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(timeout_seconds)
        self._given_up = True
        undelivered = len(self._waiting) + len(self._in_flight) + self._num_dropped
        if undelivered:
            log.warning("tracking.undelivered", to=self._name, items=undelivered)
        return undelivered

    def _run(self) -> None:
        pause = self._every_seconds
        while self._take():
            try:
                self._deliver(self._in_flight)
            except Exception as error:  # noqa: BLE001 - whatever it is, training must not learn of it
                reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                log.warning("tracking.delivery_failed", to=self._name, error=reason, retry_in_seconds=pause)
                self._rest(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                self._in_flight = []
                pause = self._every_seconds
                self._rest(pause)

    def _take(self) -> bool:
        """Wait for items and put a batch in flight, unless one already is; False when there is nothing left to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._in_flight or self._closing.is_set())
            while self._waiting and len(self._in_flight) < _BATCH:
                self._in_flight.append(self._waiting.popleft())
        return bool(self._in_flight) and not self._given_up

    def _rest(self, seconds: float) -> None:
        """Let items gather, or a failing receiver recover; someone who is closing waits only for the latter."""
        if not self._closing.wait(seconds) or not self._in_flight:
            return
        threading.Event().wait(min(seconds, _PAUSE_WHEN_CLOSING_SECONDS))
