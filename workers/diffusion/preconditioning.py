"""How a network becomes a denoiser, and at which noise levels it is trained (EDM, Karras et al. 2022, table 1)."""

import math
from typing import NamedTuple, assert_never

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from workers.contract.model import EDM, VE, VP, Preconditioning

_VP_TIME_STEPS = 1000  # M of table 1: the network of VP is told (M - 1) t


class Scalings(NamedTuple):
    """D(x, sigma) = skip x + out F(in_ x, noise)."""

    skip: Float[Tensor, " batch"]
    out: Float[Tensor, " batch"]
    in_: Float[Tensor, " batch"]
    noise: Float[Tensor, " batch"]


def scalings(config: Preconditioning, sigma_data: float, sigma: Float[Tensor, " batch"]) -> Scalings:
    """The factors c_skip, c_out, c_in, c_noise of table 1; `sigma_data` is the standard deviation of the images."""
    match config:
        case EDM():
            total = (sigma**2 + sigma_data**2).sqrt()
            return Scalings((sigma_data / total) ** 2, sigma * sigma_data / total, 1 / total, sigma.log() / 4)
        case VP():
            time = vp_time(config, sigma)
            return Scalings(torch.ones_like(sigma), -sigma, (sigma**2 + 1).rsqrt(), (_VP_TIME_STEPS - 1) * time)
        case VE():
            return Scalings(torch.ones_like(sigma), sigma, torch.ones_like(sigma), (sigma / 2).log())
        case _:
            assert_never(config)


def loss_weight(config: Preconditioning, sigma_data: float, sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """lambda(sigma) = 1 / c_out^2, in all columns of table 1: the network's error counts the same at every level."""
    return scalings(config, sigma_data, sigma).out ** -2


def draw_sigma(config: Preconditioning, generator: Generator, num_images: int) -> Float[Tensor, " num_images"]:
    """Draw training noise levels, on the generator's device."""

    def uniform() -> Tensor:
        return torch.rand(num_images, generator=generator, device=generator.device)

    match config:
        case EDM(p_mean=p_mean, p_std=p_std):
            normal = torch.randn(num_images, generator=generator, device=generator.device)
            return (p_mean + p_std * normal).exp()
        case VP(epsilon_t=epsilon):
            return vp_sigma(config, epsilon + (1 - epsilon) * uniform())
        case VE(sigma_min=low, sigma_max=high):
            return low * (math.log(high / low) * uniform()).exp()
        case _:
            assert_never(config)


def vp_sigma(config: VP, time: Tensor) -> Tensor:
    """sigma(t) = sqrt(exp(beta_d t^2 / 2 + beta_min t) - 1)."""
    return torch.expm1(config.beta_d * time**2 / 2 + config.beta_min * time).sqrt()


def vp_time(config: VP, sigma: Tensor) -> Tensor:
    """The inverse of `vp_sigma`."""
    root = (config.beta_min**2 + 2 * config.beta_d * torch.log1p(sigma**2)).sqrt()
    return (root - config.beta_min) / config.beta_d
