"""When the next checkpoint pays, by what those before have cost and how often work is lost."""

import math
import time
from collections.abc import Callable
from statistics import median

from workers.contract.records import TimeBreakdown
from workers.training.history import History, trained_seconds

_REMEMBERED = 5  # the first is dearer than the rest, and a store that was away says nothing of the next one
LEAST_SECONDS, MOST_SECONDS = 30.0, 3600.0
_ASSUMED_SECONDS = 86_400.0  # between two interruptions of all workers together, while little has been seen


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


def checkpoint_interval(*, cost_seconds: float, writing_seconds: float, mtti_seconds: float) -> float:
    """Seconds of training between two checkpoints, within what is sensible and what the store can take.

    `cost_seconds`: that training waits for one; `writing_seconds`: until it is written, for one is written at a time;
    `mtti_seconds`: the mean time to interrupt.
    """
    best = young_daly(cost_seconds=cost_seconds, mtti_seconds=mtti_seconds)
    return max(writing_seconds, LEAST_SECONDS, min(best, MOST_SECONDS))


def young_daly(*, cost_seconds: float, mtti_seconds: float) -> float:
    """The interval at which taking checkpoints and training again what was lost since one take the least time together.

    Young, "A first order approximation to the optimum checkpoint interval" (1974). The higher orders of Daly, "A
    higher order estimate of the optimum checkpoint interval for restart dumps" (2006), shorten it by about two thirds
    of the cost, far less than what is known of either argument.
    """
    return math.sqrt(2 * cost_seconds * mtti_seconds)


def mean_time_to_interrupt(*, trained_seconds: float, interruptions: int) -> float:
    """Mean seconds of training between two interruptions, as expected after so many in so long.

    What is assumed before anything is seen, one a day, counts as if it had been seen.
    """
    return (_ASSUMED_SECONDS + trained_seconds) / (1 + interruptions)


def in_images(seconds: float, *, rate: float, batch_images: int) -> int:
    """What is trained in that time, in whole batches and at least one, at `rate` images per second."""
    return max(1, round(seconds * rate / batch_images)) * batch_images
