"""What a job has been through before the workers that begin now, and what their own time goes for."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Self

from workers.contract.document import Record, read_leniently
from workers.contract.keys import JobKeys
from workers.contract.records import Outcome, Progress, TimeBreakdown
from workers.storage import ObjectStore
from workers.storage.job_folder import attempt_numbers

UNKNOWN_CODE = "unknown"  # that of workers of an older release, which tell their versions and no digest
Cause = Literal["useful", "recomputed", "preparing", "restarting", "checkpointing", "sampling"]


@dataclass(frozen=True, slots=True)
class History:
    """Of this attempt: what workers that died have spent, and how often they did. The rest is of the whole job."""

    spent: TimeBreakdown = field(default_factory=TimeBreakdown)
    restarts: int = 0
    furthest: int = 0  # images that it has ever seen
    trained_seconds: float = 0.0  # in earlier attempts
    interruptions: int = 0  # restarts, and attempts that ended otherwise than by leaving when asked to
    devices: Mapping[str, int] = field(default_factory=dict)  # what it was trained on, and how many images it saw there
    codes: Mapping[str, int] = field(default_factory=dict)  # digests of what trained it, likewise
    own_codes: tuple[str, ...] = ()  # of those that have trained in this attempt

    def other_device(self, device: str, *, after: int) -> str | None:
        """What else it was trained on beyond so many images; None if nothing."""
        return _other(self.devices, device, after)

    def other_code(self, code: str, *, after: int) -> str | None:
        """By what else it was trained beyond so many images; None if nothing."""
        return _other(self.codes, code, after)

    @classmethod
    def read(cls, store: ObjectStore, keys: JobKeys, attempt: int) -> Self:
        earlier = {number: word for number in range(1, attempt) if (word := last_word(store, keys, number))}
        own = last_word(store, keys, attempt)
        words = sorted((word for word in (*earlier.values(), own) if word), key=lambda word: word.images_seen)
        restarts = own.restarts + bool(own.num_workers) if own else 0  # it may have waited for its first workers
        lost = [number for number in earlier if not _has_left(store, keys, number)]
        return cls(
            spent=with_silence(own) if own else TimeBreakdown(),
            restarts=restarts,
            furthest=words[-1].images_seen if words else 0,
            trained_seconds=sum(trained_seconds(word.ledger) for word in earlier.values()),
            interruptions=restarts + _restarts(earlier.values()) + len(lost),
            devices={word.device: word.images_seen for word in words if word.device},
            codes={_code(word): word.images_seen for word in words if word.versions},
            own_codes=_trained_by(own) if own else (),
        )


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


def devices_of(store: ObjectStore, keys: JobKeys) -> frozenset[str]:
    """Models of GPU, or CPU, that a job was trained on, as far as its attempts have said."""
    words = (last_word(store, keys, number) for number in attempt_numbers(store, keys))
    return frozenset(word.device for word in words if word and word.device and word.images_seen)


def codes_of(store: ObjectStore, keys: JobKeys) -> frozenset[str]:
    """Digests of the code that a job was trained by, as far as its attempts have said."""
    words = (last_word(store, keys, number) for number in attempt_numbers(store, keys))
    return frozenset(code for word in words if word for code in _trained_by(word))


def with_silence(last: Progress) -> TimeBreakdown:
    """The account of workers that are gone, with the time since they, or their driver, last made it up."""
    silence = max(0.0, (datetime.now(UTC) - (last.ledger_at or last.updated_at)).total_seconds())
    cause = "waiting" if last.phase == "waiting" else "restarting"
    return last.ledger.model_copy(update={cause: getattr(last.ledger, cause) + silence})


def trained_seconds(ledger: TimeBreakdown) -> float:
    """Of all its seconds, those in which something could have been lost."""
    return ledger.useful + ledger.recomputed


def _trained_by(word: Progress) -> tuple[str, ...]:
    """Digests of the code that an attempt has trained by; an older release named none."""
    if word.codes or not (word.versions and trained_seconds(word.ledger)):
        return word.codes
    return (_code(word),)


def _code(word: Progress) -> str:
    return word.versions.get("code", UNKNOWN_CODE)


def _other(seen_by: Mapping[str, int], own: str, after: int) -> str | None:
    return next((name for name, seen in seen_by.items() if name != own and seen > after), None)


def _restarts(words: Iterable[Progress]) -> int:
    return sum(word.restarts for word in words)


def _has_left(store: ObjectStore, keys: JobKeys, attempt: int) -> bool:
    """With a last checkpoint: paused, preempted or cancelled, it lost nothing."""
    outcome = _record(Outcome, store, keys.attempt(attempt).outcome)
    return outcome is not None and outcome.status == "stopped"


def last_word(store: ObjectStore, keys: JobKeys, attempt: int) -> Progress | None:
    """The latest progress of an attempt; None if there is none."""
    return _record(Progress, store, keys.attempt(attempt).progress)


def _record(kind: type[Record], store: ObjectStore, key: str) -> Record | None:
    try:
        return read_leniently(kind, store.get(key))
    except FileNotFoundError:
        return None
