"""When a message that did not arrive is sent again."""

from datetime import timedelta

_FIRST_SECONDS = 10.0
_LONGEST_SECONDS = 6 * 3600.0
MAX_TRIES = 19  # about three days


def pause_after(tries: int, *, jitter: float) -> timedelta | None:
    """How long to wait after so many tries in vain; None = give up. `jitter` in [0, 1) spreads it by a fifth."""
    if tries >= MAX_TRIES:
        return None
    seconds = min(_FIRST_SECONDS * 3.0 ** (tries - 1), _LONGEST_SECONDS)
    return timedelta(seconds=seconds * (0.9 + 0.2 * jitter))
