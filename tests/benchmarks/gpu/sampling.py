"""How long it takes to draw images with EDM's sampler for CIFAR-10: Heun, 18 steps, 35 evaluations."""

import math
import time
from dataclasses import dataclass

import torch

from tests.benchmarks.gpu.effort import Effort
from tests.benchmarks.gpu.training import CIFAR10, begun, spec_for
from workers.contract.model import Sampler
from workers.diffusion.samplers import sample

BATCH_IMAGES = 500
_SAMPLER = Sampler(steps=18)


@dataclass(frozen=True, slots=True)
class Drawn:
    """So many images, brought to the host as bytes."""

    precision: str
    num_images: int
    seconds: float


def drawn(precision: str, *, num_images: int, effort: Effort) -> Drawn:
    """Draw images from the moving average of a network that has seen nothing: it takes as long as another."""
    state, _ = begun(spec_for(CIFAR10, precision, compiled=False, effort=effort), CIFAR10, effort)
    denoiser, batch = state.ema, 8 if effort.tiny else BATCH_IMAGES
    side = 8 if effort.tiny else CIFAR10.resolution

    def once() -> torch.Tensor:
        latents = torch.randn(batch, 3, side, side, device=effort.device)
        return (sample(denoiser, latents, _SAMPLER) * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu()

    once()
    begin = time.perf_counter()
    batches = math.ceil(num_images / batch)
    for _ in range(batches):
        once()
    return Drawn(precision, batches * batch, time.perf_counter() - begin)
