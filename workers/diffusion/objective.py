"""The loss of one optimizer step: denoising score matching, and the consistency term on a part of the batch."""

from dataclasses import dataclass
from typing import assert_never

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from workers.contract.model import Consistency, Noise
from workers.diffusion import consistency
from workers.diffusion.denoiser import Denoiser, edm_weight, per_image


@dataclass(frozen=True, slots=True)
class Draws:
    """All randomness of one step. The first `sub` images of the batch carry the consistency term."""

    sigma: Float[Tensor, " batch"]
    noise: Float[Tensor, "batch *shape"]
    sigma_next: Float[Tensor, " sub"]
    step_noises: Float[Tensor, "2 sub *shape"]

    def share(self, rank: int, num_ranks: int) -> "Draws":
        """What one of several workers computes on: every `num_ranks`-th image, so all have an equal part of `sub`."""
        mine = slice(rank, None, num_ranks)
        return Draws(self.sigma[mine], self.noise[mine], self.sigma_next[mine], self.step_noises[:, mine])


def draw(
    generator: Generator, *, num_images: int, shape: tuple[int, ...], noise: Noise, term: Consistency | None, sub: int
) -> Draws:
    """Draw the randomness of a whole batch, on the generator's device.

    ln sigma ~ N(p_mean, p_std^2); sigma' = sigma (1 - r), r ~ U[r_min, r_max] per image.
    """

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, device=generator.device)

    sigma = (noise.p_mean + noise.p_std * normal(num_images)).exp()
    image_noise = normal(num_images, *shape)
    uniform = torch.rand(sub, generator=generator, device=generator.device)
    r = term.interval.r_min + (term.interval.r_max - term.interval.r_min) * uniform if term else uniform
    return Draws(sigma, image_noise, sigma[:sub] * (1 - r), normal(2, sub, *shape))


@dataclass(frozen=True, slots=True)
class Terms:
    """Both losses of each image, EDM-weighted, mean over its elements, before lambda."""

    dsm: Float[Tensor, " batch"]
    consistency: Float[Tensor, " sub"]


class Objective(nn.Module):
    """All evaluations of a training step in one forward pass, which is what DistributedDataParallel wants to wrap.

    Raises:
        TypeError: `target` without the frozen denoiser it regresses on.
    """

    def __init__(self, denoiser: Denoiser, term: Consistency | None) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.term = term

    def forward(
        self,
        images: Float[Tensor, "batch *shape"],
        labels: Int[Tensor, " batch"] | None,
        draws: Draws,
        frozen: Denoiser | None = None,
    ) -> Terms:
        x = images + per_image(draws.sigma, images) * draws.noise
        denoised = self.denoiser(x, draws.sigma, labels)
        weight = edm_weight(draws.sigma, self.denoiser.sigma_data)
        dsm = weight * (denoised - images).square().flatten(1).mean(1)
        sub = len(draws.sigma_next)
        if self.term is None or not sub:
            return Terms(dsm, dsm.new_zeros(0))
        sub_labels = None if labels is None else labels[:sub]
        points = (x[:sub], denoised[:sub], draws.sigma[:sub], draws.sigma_next, sub_labels)
        match self.term.estimator:
            case "symmetric":
                violation = consistency.symmetric(self.denoiser, *points, draws.step_noises)
            case "target":
                if frozen is None:
                    raise TypeError("the estimator 'target' needs the frozen (EMA) denoiser")
                violation = consistency.target(frozen, *points, draws.step_noises[0])
            case _:
                assert_never(self.term.estimator)
        return Terms(dsm, weight[:sub] * violation)

    def total(self, terms: Terms) -> Float[Tensor, ""]:
        """DSM + lambda consistency, each the mean over its own images: lambda means the same at any fraction."""
        if self.term is None:
            return terms.dsm.mean()
        return terms.dsm.mean() + self.term.weight * terms.consistency.mean()
