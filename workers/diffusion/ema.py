"""The exponential moving average of the weights, its width counted in images."""

import torch
from torch import Tensor

from workers.contract.model import ExponentialMovingAverage


def ema_decay(config: ExponentialMovingAverage, *, batch_images: int, images_seen: int) -> float:
    """The share of the average that survives a step of `batch_images`: 0.5 ^ (batch / half-life).

    The half-life grows with the run (ramp-up), so that the random start is soon forgotten.
    """
    halflife = min(float(config.halflife_images), config.rampup_ratio * images_seen)
    return 0.5 ** (batch_images / halflife) if halflife > 0 else 0.0


@torch.no_grad()
def update_ema(average: list[Tensor], weights: list[Tensor], decay: float) -> None:
    """Move the average towards the weights, in place, all tensors in a few kernels."""
    torch._foreach_lerp_(average, weights, 1 - decay)
