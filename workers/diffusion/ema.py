"""The moving averages of the weights, their widths counted in images."""

import math
from typing import assert_never

import torch
from torch import Tensor

from workers.contract.model import ExponentialMovingAverage, PowerFunctionAverage


def decays(
    config: ExponentialMovingAverage | PowerFunctionAverage,
    *,
    batch_images: int,
    images_seen: int,
    starts_trained: bool = False,
) -> tuple[float, ...]:
    """The share of each stored average that survives a step of `batch_images`, which led to `images_seen`.

    Exponential: 0.5 ^ (batch / half-life). The half-life grows with the run (ramp-up), so that the random start is
    soon forgotten; not in one that `starts_trained`, whose first average is worth keeping.

    Power function: (1 - batch / images_seen) ^ (gamma + 1), for each width (Karras et al. 2024, section 3.1). From step
    to step these multiply to what makes the average equal the integral over the profile (tau / t)^gamma exactly, the
    weights being constant between two steps. The first step forgets the random start altogether.
    """
    match config:
        case ExponentialMovingAverage():
            full = float(config.halflife_images)
            halflife = full if starts_trained else min(full, config.rampup_ratio * images_seen)
            return (0.5 ** (batch_images / halflife) if halflife > 0 else 0.0,)
        case PowerFunctionAverage():
            kept = max(0.0, 1 - batch_images / images_seen) if images_seen > 0 else 0.0
            return tuple(kept ** (power_exponent(width) + 1) for width in config.relative_widths)
        case _:
            assert_never(config)


@torch.no_grad()
def update_ema(average: list[Tensor], weights: list[Tensor], decay: float) -> None:
    """Move one average towards the weights, in place, all tensors in a few kernels."""
    torch._foreach_lerp_(average, weights, 1 - decay)


def power_exponent(relative_width: float) -> float:
    """The gamma > 0 whose profile (tau / t)^gamma on [0, t] has the standard deviation `relative_width` * t.

    A Beta(gamma + 1, 1) distribution of tau / t has sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)). With
    x = gamma + 2 and k = sigma_rel^-2 this is x^3 + x^2 - k x + k = 0, which has three real roots for every width below
    12^-0.5, that of gamma = 0; Viete's formula gives the largest, the only one with gamma > 0.
    """
    k = relative_width**-2
    p, q = -k - 1 / 3, 4 * k / 3 + 2 / 27  # y^3 + p y + q = 0, with y = x + 1/3
    angle = math.acos(3 * q / (2 * p) * math.sqrt(-3 / p)) / 3
    return 2 * math.sqrt(-p / 3) * math.cos(angle) - 1 / 3 - 2
