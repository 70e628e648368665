"""When the next checkpoint pays, by what those before have cost."""

import time
from collections.abc import Callable
from statistics import median

from workers.contract.records import TimeBreakdown
from workers.training.history import History, trained_seconds
from workers.training.interval import LEAST_SECONDS, checkpoint_interval, mean_time_to_interrupt

_REMEMBERED = 5  # the first is dearer than the rest, and a store that was away says nothing of the next one


class CheckpointSchedule:
    """Measures checkpoints, and says how far apart they had best be."""

    def __init__(self, history: History, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._history = history
        self._clock = clock
        self._costs: tuple[float, ...] = ()
        self._writings: tuple[float, ...] = ()
        self._since = clock()

    def paid(self, seconds: float) -> None:
        """So long has training just waited for a checkpoint and the sample grid that goes with it."""
        self._costs = (*self._costs, seconds)[-_REMEMBERED:]
        self._since = self._clock()

    def written(self, seconds: float) -> None:
        """So long did one take from its snapshot until it was committed. May be told on another thread."""
        self._writings = (*self._writings, seconds)[-_REMEMBERED:]

    def interval(self, ledger: TimeBreakdown) -> float | None:
        """Seconds between two checkpoints, with the attempt's account up to now; None before anything is measured."""
        if not self._costs or not self._writings:
            return None
        trained = self._history.trained_seconds + trained_seconds(ledger)
        mtti = mean_time_to_interrupt(trained_seconds=trained, interruptions=self._history.interruptions)
        return checkpoint_interval(
            cost_seconds=median(self._costs), writing_seconds=median(self._writings), mtti_seconds=mtti
        )

    def is_due(self, ledger: TimeBreakdown) -> bool:
        """Whether so much time has gone by; the first comes early, to be measured."""
        return self._clock() - self._since >= (self.interval(ledger) or LEAST_SECONDS)
