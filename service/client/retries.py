"""Which requests are repeated, and when."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from service.client.errors import ClientError, RequestFailed, ServiceUnreachable, StillInFlight

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 8.0
_PATIENCE_SECONDS, _LONGEST_WAIT_SECONDS = 60.0, 5.0
_LONGEST_ASKED_SECONDS = 90.0  # our own service asks for a minute at most, the window of its rate limit
_TRANSIENT_STATUSES = frozenset({408, 429, 502, 503, 504})
_NOT_DONE = frozenset({408, 429, 503})  # what is refused so was not carried out


class Repeat(StrEnum):
    """When a request may be sent a second time."""

    FREELY = "freely"  # it changes nothing, or the same thing, or has an Idempotency-Key
    IF_NOT_DONE = "if_not_done"  # with If-Match: what was done already would be refused the second time


@dataclass(frozen=True, slots=True)
class Timing:
    """How time passes; tests have their own."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    jitter: Callable[[], float] = random.random  # in [0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How much patience there is. `total_seconds` counts all tries and pauses of one request."""

    max_retries: int
    total_seconds: float

    def within(self, seconds: float) -> "Policy":
        """The same, but for no longer than this."""
        return replace(self, total_seconds=min(self.total_seconds, seconds))

    def pause_seconds(
        self, error: ClientError, *, repeat: Repeat, tries: int, spent_seconds: float, jitter: float
    ) -> float | None:
        """How long to wait before the next try; None = that was the last.

        A `Retry-After` that does not fit into the time that is left is the caller's to wait for.
        """
        if tries > self.max_retries or not may_pass(error, repeat):
            return None
        asked = error.retry_after if isinstance(error, RequestFailed) else None
        longest = min(_FIRST_PAUSE_SECONDS * 2 ** (tries - 1), _LONGEST_PAUSE_SECONDS)
        pause = longest * (1 + jitter) / 2 if asked is None else asked + _FIRST_PAUSE_SECONDS * jitter
        return pause if spent_seconds + pause < self.total_seconds else None


class Patience:
    """With a service that is away, of streams and transfers, which go on where they were: it may be restarted.

    There is some for a minute after its last sign of life. A pause that it asks for then by `Retry-After`, of up to
    90 s, is kept whole, and ends with a last try.
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self.progressed()

    def progressed(self) -> None:
        """Something came."""
        self.was_there()
        self._pause = _FIRST_PAUSE_SECONDS

    def was_there(self) -> None:
        """The service answered until now, whether or not anything came."""
        self._since = self._timing.monotonic()

    def wait(self, error: ClientError) -> None:
        """Pause before another try; raises `error` if it will not pass, or there is no patience left."""
        asked = (error.retry_after if isinstance(error, RequestFailed) else None) or 0.0
        is_away = self._timing.monotonic() - self._since > _PATIENCE_SECONDS
        if is_away or asked > _LONGEST_ASKED_SECONDS or not may_pass(error, Repeat.FREELY):
            raise error
        self._timing.sleep(max(asked, self._pause * (1 + self._timing.jitter()) / 2))
        self._pause = min(2 * self._pause, _LONGEST_WAIT_SECONDS)


def may_be_done(error: ClientError) -> bool:
    """Whether a request that ended so may have been carried out nevertheless."""
    if isinstance(error, ServiceUnreachable):
        return error.was_asked
    return isinstance(error, RequestFailed) and error.status in {502, 504}  # of something between us and the service


def may_pass(error: ClientError, repeat: Repeat) -> bool:
    """Whether the same request may fare better, and does no harm."""
    match error:
        case ServiceUnreachable():
            return repeat is Repeat.FREELY or not error.was_asked
        case StillInFlight():
            return True
        case RequestFailed():
            return error.status in (_TRANSIENT_STATUSES if repeat is Repeat.FREELY else _NOT_DONE)
        case _:
            return False
