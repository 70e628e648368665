"""What the driver makes of a failed Ray Train run."""

from collections.abc import Callable

from ray.train import TrainingFailedError

from workers.jobs.ray_group import _cause


def cause_of(error: TrainingFailedError, *, why_hung: Callable[[int], str | None] = lambda rank: None) -> Exception:
    """Where no watchdog has ended a worker, unless `why_hung` says so."""
    return _cause(error, why_hung)
