"""Denoisers known in closed form: what every numerical claim is measured against."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class GaussianDenoiser:
    """The exact denoiser of data drawn from N(0, scale^2 I)."""

    scale: float

    def __call__(self, x: Tensor, sigma: Float[Tensor, " batch"], labels: Tensor | None = None) -> Tensor:
        variance = self.scale**2
        return x * (variance / (variance + sigma**2)).view(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True)
class RingDenoiser:
    """The exact denoiser of eight Gaussians on a ring in the plane; `inflation` > 0 makes an inconsistent one of it."""

    radius: float = 0.68
    std: float = 0.10
    inflation: float = 0.0

    @property
    def centres(self) -> Float[Tensor, "8 2"]:
        angles = torch.arange(8) * 2 * math.pi / 8
        return self.radius * torch.stack([angles.cos(), angles.sin()], dim=1)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count 2"]:
        which = torch.randint(8, (count,), generator=generator)
        return self.centres[which] + self.std * torch.randn(count, 2, generator=generator)

    def __call__(
        self, x: Float[Tensor, "batch 2"], sigma: Float[Tensor, " batch"], labels: Tensor | None = None
    ) -> Tensor:
        sigma = sigma[:, None]
        variance = self.std**2 + sigma**2
        distances = ((x[:, None] - self.centres) ** 2).sum(-1)
        mean = (-distances / (2 * variance)).softmax(dim=1) @ self.centres
        exact = mean + self.std**2 / variance * (x - mean)
        return exact * (1 + self.inflation * sigma)
