"""Where the time comes from, so that tests can bring their own."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present time, aware of its zone."""
    return datetime.now(UTC)
