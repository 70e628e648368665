"""How sure a mean is."""

import math
from collections.abc import Sequence
from statistics import fmean


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of two values or more. Sums are exact, so their order changes nothing."""
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
