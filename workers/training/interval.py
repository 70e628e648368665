"""How far apart checkpoints had best be: pure functions of what they cost and of how often work is lost."""

import math

LEAST_SECONDS, MOST_SECONDS = 30.0, 3600.0
_ASSUMED_SECONDS = 86_400.0  # between two interruptions of all workers together, while little has been seen


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
