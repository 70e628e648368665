"""A thread that delivers things, so that whoever has something to say need not wait."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import structlog

from workers.contract.records import Behind
from workers.logs import in_one_line
from workers.tracking.spool import Spool

T = TypeVar("T")
log = structlog.get_logger()

_BATCH = 500
_LONGEST_PAUSE_SECONDS = 30.0
_PAUSE_WHEN_CLOSING_SECONDS = 0.5
_BEHIND_AFTER = timedelta(seconds=60)


class Background(Generic[T]):
    """Hands items to `deliver` in order, in batches, on its own thread, and again after a pause if that fails.

    Until then they are in `waiting`, which bounds memory and disk; what finds no room there is dropped, and counted.
    `deliver` sees the same batch again after a failure, so it must be idempotent.
    """

    def __init__(
        self, name: str, deliver: Callable[[list[T]], None], waiting: Spool[T], *, every_seconds: float = 3.0
    ) -> None:
        self.name = name
        self._deliver = deliver
        self._every_seconds = every_seconds
        self._waiting = waiting
        self._in_flight: list[T] = []
        self._tried_since: datetime | None = None  # the batch in flight
        self._num_dropped = 0
        self._is_dropping = False
        self._changed = threading.Condition()
        self._hurried = threading.Event()  # somebody waits for what has gathered
        self._closing = threading.Event()
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: T) -> None:
        """Take an item for delivery. Never waits for a delivery, never raises."""
        with self._changed:
            try:
                self._waiting.put(item)
            except OSError as error:
                self._drop(1, error)
            self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> bool:
        """Have all that waits delivered at once; whether it was, within so long."""
        with self._changed:
            self._hurried.set()
            return self._changed.wait_for(lambda: not (self._waiting or self._in_flight), timeout_seconds)

    def behind(self) -> Behind | None:
        """How much waits, and since when, if the receiver has taken nothing for a minute though there was something."""
        with self._changed:
            since = self._tried_since
            if since is None or self._given_up or datetime.now(UTC) - since < _BEHIND_AFTER:
                return None
            return Behind(waiting=len(self._waiting) + len(self._in_flight), since=since)

    def close(self, timeout_seconds: float) -> int:
        """Deliver what is left, for at most so long; return how many items never arrived."""
        with self._changed:
            self._closing.set()
            self._hurried.set()
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        with self._changed:
            self._given_up = True
            undelivered = len(self._waiting) + len(self._in_flight) + self._num_dropped
            self._waiting.clear()
        if undelivered:
            log.warning("tracking.undelivered", to=self.name, items=undelivered)
        return undelivered

    def _run(self) -> None:
        pause = self._every_seconds
        while self._take():
            try:
                self._deliver(self._in_flight)
            except Exception as error:  # noqa: BLE001 - whatever it is, training must not learn of it
                log.warning("tracking.delivery_failed", to=self.name, error=in_one_line(error), retry_in_seconds=pause)
                self._rest(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                pause = self._every_seconds
                if self._arrived() < _BATCH:
                    self._hurried.wait(pause)  # items gather meanwhile

    def _take(self) -> bool:
        """Wait for items and put a batch in flight, unless one already is; False when there is nothing left to do."""
        with self._changed:
            while not self._in_flight and not self._given_up:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                if not self._waiting:
                    return False
                self._refill()
            self._tried_since = self._tried_since or datetime.now(UTC)
            return not self._given_up

    def _refill(self) -> None:
        waiting = len(self._waiting)
        try:
            self._in_flight = self._waiting.take(_BATCH)
        except (OSError, ValueError) as error:
            self._waiting.clear()
            self._drop(waiting, error)

    def _arrived(self) -> int:
        """The batch in flight has been delivered; how many items wait behind it."""
        with self._changed:
            self._in_flight, self._tried_since = [], None
            if not self._waiting and not self._closing.is_set():
                self._hurried.clear()
            self._changed.notify_all()
            if self._is_dropping and not self._waiting:
                log.warning("tracking.dropped", to=self.name, items=self._num_dropped)
                self._is_dropping = False
            return len(self._waiting)

    def _drop(self, items: int, error: Exception) -> None:
        """Said once until all that waits has been delivered: a full disk may stay full for hours."""
        if not self._is_dropping:
            log.warning("tracking.dropping", to=self.name, error=in_one_line(error))
        self._is_dropping = True
        self._num_dropped += items

    def _rest(self, seconds: float) -> None:
        """Let a failing receiver recover; someone who is closing waits for less."""
        if self._closing.wait(seconds):
            threading.Event().wait(min(seconds, _PAUSE_WHEN_CLOSING_SECONDS))
