"""Drawing images from a denoiser."""

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workers.contract.model import Sampler
from workers.diffusion.denoiser import Denoise


def noise_levels(sampler: Sampler) -> Float[Tensor, " steps_and_zero"]:
    """sigma_max > ... > sigma_min > 0, evenly spaced in sigma^(1/rho) but for the last (EDM, equation 5)."""
    ramp = torch.linspace(0, 1, sampler.steps, dtype=torch.float64)
    high, low = sampler.sigma_max ** (1 / sampler.rho), sampler.sigma_min ** (1 / sampler.rho)
    return torch.cat([(high + ramp * (low - high)) ** sampler.rho, torch.zeros(1, dtype=torch.float64)])


@torch.no_grad()
def sample_heun(
    denoise: Denoise, latents: Float[Tensor, "batch *shape"], labels: Int[Tensor, " batch"] | None, sampler: Sampler
) -> Float[Tensor, "batch *shape"]:
    """Follow the probability-flow ODE with Heun's second-order method, the last step by Euler (EDM, algorithm 1).

    Deterministic given `latents`, standard normal. Takes 2 `steps` - 1 evaluations; the state is kept in float64, the
    denoiser sees float32.
    """

    def slope(x: Tensor, sigma: Tensor) -> Tensor:
        denoised = denoise(x.float(), sigma.float().expand(len(x)), labels)
        return (x - denoised) / sigma

    levels = noise_levels(sampler).to(latents.device)
    x = latents.double() * levels[0]
    for sigma, sigma_next in pairwise(levels):
        here = slope(x, sigma)
        step = sigma_next - sigma
        euler = x + step * here
        x = euler if sigma_next == 0 else x + step * (here + slope(euler, sigma_next)) / 2
    return x.float()
