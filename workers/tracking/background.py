"""A thread that delivers things, so that whoever has something to say need not wait."""

import threading
from collections.abc import Callable, Sized
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import structlog

from workers.contract.records import DeliveryDelay
from workers.logs import in_one_line
from workers.tracking.backlog import Backlog

Item = TypeVar("Item")
Batch = TypeVar("Batch", bound=Sized)
log = structlog.get_logger()

_LONGEST_PAUSE_SECONDS = 30.0
_PAUSE_WHEN_CLOSING_SECONDS = 0.5
_BEHIND_AFTER = timedelta(seconds=60)


class Background(Generic[Item, Batch]):
    """Hands items to `deliver` in order, in batches, on its own thread, and again after a pause if that fails.

    Until then they are in `waiting`, which bounds memory; what has to go for newer items is counted. `deliver` sees the
    same batch again after a failure, so it must be idempotent.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Batch], None],
        waiting: Backlog[Item, Batch],
        *,
        every_seconds: float,
    ) -> None:
        """After a delivery items gather for `every_seconds`, unless there is a whole batch of them before."""
        self.name = name
        self._deliver = deliver
        self._every_seconds = every_seconds
        self._waiting = waiting
        self._in_flight: Batch | None = None
        self._tried_since: datetime | None = None  # the batch in flight
        self._num_dropped = 0
        self._is_dropping = False
        self._changed = threading.Condition()
        self._hurried = False  # somebody waits for what has gathered
        self._closing = threading.Event()
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: Item) -> None:
        """Take an item for delivery. Never waits for a delivery, never raises."""
        with self._changed:
            was_empty = not self._waiting
            if dropped := self._waiting.put(item):
                self._drop(dropped)
            if was_empty or self._waiting.has_batch:
                self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> bool:
        """Have all that waits delivered at once; whether it was, within so long."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._num_undelivered(), timeout_seconds)

    def behind(self) -> DeliveryDelay | None:
        """How much waits, and since when, if the receiver has taken nothing for a minute though there was something."""
        with self._changed:
            since = self._tried_since
            if since is None or self._given_up or datetime.now(UTC) - since < _BEHIND_AFTER:
                return None
            return DeliveryDelay(waiting=self._num_undelivered(), since=since)

    def close(self, timeout_seconds: float) -> int:
        """Deliver what is left, for at most so long; return how many items never arrived."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        with self._changed:
            self._given_up = True
            undelivered = self._num_undelivered() + self._num_dropped
        if undelivered:
            log.warning("tracking.undelivered", to=self.name, items=undelivered)
        return undelivered

    def _run(self) -> None:
        pause = self._every_seconds
        while (batch := self._take()) is not None:
            try:
                self._deliver(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, training must not learn of it
                log.warning("tracking.delivery_failed", to=self.name, error=in_one_line(error), retry_in_seconds=pause)
                self._back_off(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                pause = self._every_seconds
                self._arrived()
                self._gather()

    def _take(self) -> Batch | None:
        """Wait for items and put a batch in flight, unless one already is; None when there is nothing left to do."""
        with self._changed:
            if self._in_flight is None:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                if not self._waiting:
                    return None
                self._in_flight, self._tried_since = self._waiting.take(), datetime.now(UTC)
            return None if self._given_up else self._in_flight

    def _arrived(self) -> None:
        """The batch in flight has been delivered."""
        with self._changed:
            self._in_flight = self._tried_since = None
            self._changed.notify_all()
            if self._waiting:
                return
            self._hurried = False
            if self._is_dropping:
                log.warning("tracking.dropped", to=self.name, items=self._num_dropped)
                self._is_dropping = False

    def _gather(self) -> None:
        with self._changed:
            self._changed.wait_for(self._is_urgent, self._every_seconds)

    def _is_urgent(self) -> bool:
        return self._hurried or self._closing.is_set() or self._waiting.has_batch

    def _num_undelivered(self) -> int:
        return len(self._waiting) + len(self._in_flight or ())

    def _drop(self, items: int) -> None:
        """Said once until all that waits has been delivered: a receiver may be away for days."""
        if not self._is_dropping:
            log.warning("tracking.dropping", to=self.name)
        self._is_dropping = True
        self._num_dropped += items

    def _back_off(self, seconds: float) -> None:
        """Let a failing receiver recover; someone who is closing waits for less."""
        if self._closing.wait(seconds):
            threading.Event().wait(min(seconds, _PAUSE_WHEN_CLOSING_SECONDS))
