"""What the time of a run goes for."""

import time
from collections.abc import Callable
from typing import Literal

from workers.training.history import History

Cause = Literal["useful", "recomputed", "preparing", "restarting", "checkpointing", "sampling"]


class Timekeeper:
    """Charges the time since it was last asked to a cause, beside what earlier workers of the attempt have spent."""

    def __init__(self, history: History, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.ledger = history.spent
        self.furthest = history.furthest
        self._clock = clock
        self._since = clock()

    def charge(self, cause: Cause) -> float:
        """The seconds that were charged."""
        now = self._clock()
        seconds, self._since = now - self._since, now
        self.ledger = self.ledger.model_copy(update={cause: getattr(self.ledger, cause) + seconds})
        return seconds

    def charge_training(self, images_seen: int) -> None:
        """Charge steps up to `images_seen`: if the last went further than ever, all as useful, else as recomputed."""
        self.charge("useful" if images_seen > self.furthest else "recomputed")
