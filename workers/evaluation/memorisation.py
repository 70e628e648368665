"""Whether drawn images are copies of training images."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from workers.evaluation.neighbours import Nearest, nearest, nearest_others

_QUANTILE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Memorisation:
    """How near drawn images are to training images, beside how near these are to each other."""

    nearest: Nearest  # training image of each drawn one
    share_nearer: float  # of the drawn images, than all but a hundredth of the others; about 0.01 if as near as these
    z: float  # Mann-Whitney: standard normal if they are as near; -3 and below: drawn images are nearer


def memorisation(
    drawn: Float[Tensor, "images_drawn dimensions"], training: Float[Tensor, "images_training dimensions"]
) -> Memorisation:
    """Compare distances to the nearest training image, of drawn images and of others (Meehan et al. 2020).

    Each training image stands in for another one, beside all the rest. A training set with copies of its own hides a
    network's: its images are as near to each other.

    Raises:
        ValueError: there are no drawn images, or fewer than two to compare them with.
    """
    if len(drawn) < 1 or len(training) < 2:
        raise ValueError("nothing to compare: one drawn image and two training images are the fewest")
    found, others = nearest(drawn, training), nearest_others(training)
    nearer = (found.distances <= _quantile(others.distances)).double().mean()
    return Memorisation(found, float(nearer), mann_whitney_z(found.distances, others.distances))


def mann_whitney_z(a: Float64[Tensor, " count_a"], b: Float64[Tensor, " count_b"]) -> float:
    """By how many standard deviations values of `a` rank above those of `b`, ties counted half; 0 if all are equal."""
    count_a, count_b = len(a), len(b)
    total = count_a + count_b
    pooled = torch.cat([a, b])
    ordered = pooled.sort().values
    lower = torch.searchsorted(ordered, pooled).double()
    ties = torch.searchsorted(ordered, pooled, right=True) - lower  # of each value, itself among them
    ranks = lower + (ties + 1) / 2
    above = float(ranks[:count_a].sum()) - count_a * (count_a + 1) / 2
    tied = float((ties**2 - 1).sum()) / (total * (total - 1))
    variance = count_a * count_b / 12 * (total + 1 - tied)
    return (above - count_a * count_b / 2) / math.sqrt(variance) if variance > 0 else 0.0


def _quantile(distances: Float64[Tensor, " images"]) -> float:
    """Of the sorted distances the one a hundredth of the way, so that it is one of them."""
    rank = max(math.ceil(_QUANTILE * len(distances)), 1)
    return float(distances.sort().values[rank - 1])
