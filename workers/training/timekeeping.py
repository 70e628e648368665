"""What the time of a run goes for."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from pydantic import ValidationError

from workers.contract.keys import JobKeys
from workers.contract.records import Ledger, Progress
from workers.storage import ObjectStore

Cause = Literal["useful", "recomputed", "preparing", "restarting", "checkpointing", "sampling"]


class Timekeeper:
    """Charges the time since it was last asked to a cause."""

    def __init__(self, spent: Ledger, *, furthest: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`spent`: by workers of the same attempt that have died; `furthest`: images that the job has ever seen."""
        self.ledger = spent
        self.furthest = furthest
        self._clock = clock
        self._since = clock()

    def charge(self, cause: Cause) -> None:
        now = self._clock()
        self.ledger = _plus(self.ledger, cause, now - self._since)
        self._since = now

    def charge_training(self, images_seen: int) -> None:
        """Steps up to there; as a whole they count as what the last of them was."""
        self.charge("useful" if images_seen > self.furthest else "recomputed")


def resumed_timekeeper(store: ObjectStore, keys: JobKeys, attempt: int) -> Timekeeper:
    """Go on from what the attempt's earlier workers have spent, if there were any."""
    told = [_last_word(store, keys, number) for number in range(1, attempt + 1)]
    furthest = max((progress.images_seen for progress in told if progress), default=0)
    if (last := told[-1]) is None:
        return Timekeeper(Ledger(), furthest=furthest)
    silence = max(0.0, (datetime.now(UTC) - last.updated_at).total_seconds())
    return Timekeeper(_plus(last.ledger, "restarting", silence), furthest=furthest)


def _last_word(store: ObjectStore, keys: JobKeys, attempt: int) -> Progress | None:
    try:
        return Progress.model_validate_json(store.get(keys.attempt(attempt).progress))
    except (FileNotFoundError, ValidationError):
        return None


def _plus(ledger: Ledger, cause: Cause, seconds: float) -> Ledger:
    return ledger.model_copy(update={cause: getattr(ledger, cause) + seconds})
