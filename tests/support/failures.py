"""What the driver makes of a failed Ray Train run."""

from collections.abc import Callable

from ray.train import TrainingFailedError

from workers.contract.compute import Compute
from workers.jobs.ray_group import _cause


def cause_of(error: TrainingFailedError, *, hung: Callable[[int], bool] = lambda rank: False) -> Exception:
    """With the default patience of watchdogs."""
    return _cause(error, Compute(), hung)
