"""The Heun sampler, on data for which the probability-flow ODE has a closed solution."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from tests.support.oracles import GaussianDenoiser
from workers.contract.model import Sampler
from workers.diffusion.samplers import noise_levels, sample_heun


def exact_end(latents: Tensor, scale: float, sigma_max: float) -> Tensor:
    """For N(0, scale^2): x(sigma) is proportional to sqrt(scale^2 + sigma^2)."""
    return latents * sigma_max * scale / math.sqrt(scale**2 + sigma_max**2)


def test_noise_levels_fall_from_sigma_max_to_sigma_min_to_zero() -> None:
    levels = noise_levels(Sampler(steps=18, sigma_min=0.002, sigma_max=80.0))

    assert len(levels) == 19
    assert math.isclose(float(levels[0]), 80.0, rel_tol=1e-9)
    assert math.isclose(float(levels[-2]), 0.002, rel_tol=1e-9)
    assert float(levels[-1]) == 0
    assert bool((levels.diff() < 0).all())


def test_heun_converges_with_second_order() -> None:
    latents = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    errors = []
    steps = [16, 32, 64, 128]

    for count in steps:
        sampler = Sampler(steps=count, sigma_min=0.002, sigma_max=80.0)
        drawn = sample_heun(GaussianDenoiser(0.5), latents, None, sampler)
        errors.append(float((drawn - exact_end(latents, 0.5, 80.0)).abs().mean()))

    slopes = [math.log2(before / after) for before, after in pairwise(errors)]
    assert all(1.6 < slope < 2.4 for slope in slopes), (errors, slopes)


def test_an_image_does_not_depend_on_the_batch_it_is_drawn_in() -> None:
    latents = torch.randn(6, 3)
    sampler = Sampler(steps=5)
    denoise = GaussianDenoiser(0.5)

    together = sample_heun(denoise, latents, None, sampler)
    apart = torch.cat([sample_heun(denoise, latent[None], None, sampler) for latent in latents])

    assert torch.equal(together, apart)
