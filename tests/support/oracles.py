"""Denoisers known in closed form: what every numerical claim is measured against."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workers.diffusion.conditions import NO_CLASS, UNCONDITIONAL, Conditions


@dataclass(frozen=True)
class GaussianDenoiser:
    """The exact denoiser of data drawn from N(0, scale^2 I)."""

    scale: float

    def __call__(self, x: Tensor, sigma: Float[Tensor, " batch"], conditions: Conditions = UNCONDITIONAL) -> Tensor:
        variance = self.scale**2
        return x * (variance / (variance + sigma**2)).view(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True)
class CorrelatedDenoiser:
    """The exact denoiser of points drawn from N(0, covariance)."""

    covariance: Float[Tensor, "dim dim"]

    def __call__(
        self, x: Float[Tensor, "batch dim"], sigma: Float[Tensor, " batch"], conditions: Conditions = UNCONDITIONAL
    ) -> Float[Tensor, "batch dim"]:
        covariance = self.covariance.to(x)
        noisy = covariance + sigma[:, None, None] ** 2 * torch.eye(len(covariance)).to(x)
        denoised: Tensor = covariance @ torch.linalg.solve(noisy, x[:, :, None])
        return denoised[:, :, 0]


@dataclass(frozen=True)
class MixtureDenoiser:
    """The exact denoiser of equally likely N(centre, std^2 I), one a class; without a class, of all of them."""

    centres: Float[Tensor, "classes dim"]
    std: float

    def __call__(
        self, x: Float[Tensor, "batch dim"], sigma: Float[Tensor, " batch"], conditions: Conditions = UNCONDITIONAL
    ) -> Float[Tensor, "batch dim"]:
        centres = self.centres.to(x)
        variance = self.std**2 + sigma[:, None] ** 2
        likelihood = -((x[:, None] - centres) ** 2).sum(-1) / (2 * variance)
        mean = (likelihood + self._prior(len(x), conditions.labels).to(x)).softmax(dim=1) @ centres
        return mean + self.std**2 / variance * (x - mean)

    def draw_clean(
        self, x: Float[Tensor, "batch dim"], sigma: Float[Tensor, " batch"], generator: torch.Generator
    ) -> Float[Tensor, "batch dim"]:
        """x_0 ~ q(x_0 | x_t = x): a component by its posterior, then a point of it around its conditional mean."""
        centres = self.centres.to(x)
        variance = self.std**2 + sigma[:, None] ** 2
        likelihood = (-((x[:, None] - centres) ** 2).sum(-1) / (2 * variance)).softmax(dim=1)
        centre = centres[torch.multinomial(likelihood, 1, generator=generator)[:, 0]]
        mean = centre + self.std**2 / variance * (x - centre)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return mean + self.std * sigma[:, None] / variance.sqrt() * noise

    def _prior(self, count: int, labels: Int[Tensor, " batch"] | None) -> Float[Tensor, "batch classes"]:
        """Logarithms: 0 for what an image may be, -inf for the rest."""
        classes = torch.arange(len(self.centres))
        given = torch.full((count, 1), NO_CLASS) if labels is None else labels[:, None]
        return torch.zeros(count, len(classes)).masked_fill((given != NO_CLASS) & (given != classes), -math.inf)


@dataclass(frozen=True)
class RingDenoiser:
    """The exact denoiser of eight Gaussians on a ring in the plane; `inflation` > 0 makes an inconsistent one of it."""

    radius: float = 0.68
    std: float = 0.10
    inflation: float = 0.0

    @cached_property
    def centres(self) -> Float[Tensor, "8 2"]:
        angles = torch.arange(8) * 2 * math.pi / 8
        return self.radius * torch.stack([angles.cos(), angles.sin()], dim=1)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count 2"]:
        which = torch.randint(8, (count,), generator=generator)
        return self.centres[which] + self.std * torch.randn(count, 2, generator=generator)

    def __call__(
        self, x: Float[Tensor, "batch 2"], sigma: Float[Tensor, " batch"], conditions: Conditions = UNCONDITIONAL
    ) -> Tensor:
        exact = MixtureDenoiser(self.centres, self.std)(x, sigma)
        return exact * (1 + self.inflation * sigma[:, None])
