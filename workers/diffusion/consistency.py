"""The martingale regulariser of CDM: how inconsistent a denoiser is, from short stretches of its reverse process.

A denoiser is consistent if E[D(x_s, s) | x_t] = D(x_t, t) for s < t along its own reverse process (Daras et al. 2023).
The released CDM integrates that process in five Euler-Maruyama steps. On its intervals one ancestral step has the
same bias and less variance; on r = (t - s) / t ~ U[0, 0.3] its bias is 0.05 % of the loss of denoising score matching,
whose evaluation at (x_t, t) is the only one that it takes.

As in the paper, gradients flow through the predictions and not through the steps between them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from workers.contract.consistency import Antithetic4, Asymmetric, Consistency, Paper, Symmetric, Target
from workers.diffusion.conditions import Conditions
from workers.diffusion.denoiser import Denoise, mean_of_elements, per_image

_RHO = 7.0  # the steps of an interval are spaced as those of EDM's sampler (equation 5)


@dataclass(frozen=True, slots=True)
class Start:
    """Noisy images at t = sigma with the denoiser's prediction there, and the s = sigma_next to go to."""

    x: Float[Tensor, "batch *shape"]
    denoised: Float[Tensor, "batch *shape"]
    sigma: Float[Tensor, " batch"]
    sigma_next: Float[Tensor, " batch"]
    conditions: Conditions
    independent_masks: bool = False

    def conditions_of(self, copies: int, *, evaluation: int) -> Conditions:
        """What the network is told in its further evaluations, numbered from 0, of so many copies of the images."""
        if self.independent_masks:
            return self.conditions.redrawn(copies, evaluation)
        return self.conditions.repeated(copies)


def num_chains(term: Consistency) -> int:
    """How many independent stretches of the reverse process an estimator draws from each start."""
    match term:
        case Symmetric(samples=samples):
            return samples
        case Asymmetric() | Antithetic4() | Paper():
            return 2
        case Target():
            return 1
        case _:
            assert_never(term)


def inconsistency(
    term: Consistency,
    denoise: Denoise,
    start: Start,
    noises: Float[Tensor, "steps chains batch *shape"],
    frozen: Denoise | None = None,
) -> Float[Tensor, " batch"]:
    """Estimate || E[D(x_s, s)] - D(x_t, t) ||^2 of each image, mean over its elements; unbiased, so at times negative.

    The square of a single gap would add the variance of D(x_s, s), which is a hundred times larger: all estimators but
    `target` multiply independent gaps. `target` is a regression, whose value holds that variance too.

    Raises:
        TypeError: `target` without the frozen denoiser it regresses on.
    """
    match term:
        case Symmetric():
            x_next = reverse_process(denoise, start, noises, ancestral_step)
            return u_statistic(gaps(denoise, start, x_next))
        case Paper():
            x_next = reverse_process(denoise, start, noises, euler_maruyama_step)
            return u_statistic(gaps(denoise, start, x_next))
        case Antithetic4():
            x_next = reverse_process(denoise, start, torch.cat([noises, -noises], dim=1), ancestral_step)
            plus, minus = gaps(denoise, start, x_next).chunk(2)
            return u_statistic((plus + minus) / 2)
        case Asymmetric():
            first, second = reverse_process(denoise, start, noises, ancestral_step).chunk(2)
            with torch.no_grad():
                held = gaps(denoise, start, first)[0]
            product = held * gaps(denoise, start, second)[0]
            return mean_of_elements(2 * product - product.detach())  # the value of the product, twice its gradient
        case Target():
            if frozen is None:
                raise TypeError("the estimator 'target' needs the frozen (EMA) denoiser")
            with torch.no_grad():
                (x_next,) = reverse_process(denoise, start, noises, ancestral_step)
                goal = frozen(x_next, start.sigma_next, start.conditions.without_dropout())
            return mean_of_elements((start.denoised - goal).square())
        case _:
            assert_never(term)


def reverse_process(
    denoise: Denoise, start: Start, noises: Float[Tensor, "steps chains batch *shape"], step: Callable[..., Tensor]
) -> Float[Tensor, "chains batch *shape"]:
    """Where independent chains of the reverse process arrive, all of them in one batch, without gradient."""
    chains = noises.shape[1]
    repeats = (chains, *[1] * (start.x.ndim - 1))
    x, denoised = start.x.repeat(repeats), start.denoised.detach().repeat(repeats)
    levels = _levels(start.sigma, start.sigma_next, steps=len(noises)).repeat(1, chains)
    with torch.no_grad():
        for number, noise in enumerate(noises.flatten(1, 2)):
            if number:
                denoised = denoise(x, levels[number], start.conditions_of(chains, evaluation=number))
            x = step(x, denoised, levels[number], levels[number + 1], noise)
    return x.view(chains, *start.x.shape)


def gaps(
    denoise: Denoise, start: Start, x_next: Float[Tensor, "samples batch *shape"]
) -> Float[Tensor, "samples batch *shape"]:
    """D(x_s, s) - D(x_t, t) of each sample, all in one evaluation."""
    samples = len(x_next)
    sigma_next, conditions = start.sigma_next.repeat(samples), start.conditions_of(samples, evaluation=0)
    return denoise(x_next.flatten(0, 1), sigma_next, conditions).view_as(x_next) - start.denoised


def u_statistic(samples: Float[Tensor, "samples batch *shape"]) -> Float[Tensor, " batch"]:
    """The mean product of two different samples, over all pairs and then all elements: (E sample)^2 without bias."""
    num_pairs = len(samples) * (len(samples) - 1)
    return mean_of_elements((samples.sum(0).square() - samples.square().sum(0)) / num_pairs)


def ancestral_step(
    x: Float[Tensor, "batch *shape"],
    denoised: Float[Tensor, "batch *shape"],
    sigma: Float[Tensor, " batch"],
    sigma_next: Float[Tensor, " batch"],
    noise: Float[Tensor, "batch *shape"],
) -> Float[Tensor, "batch *shape"]:
    """Draw x_s ~ q(x_s | x_t, x_0 = denoised), s <= t: the exact solution of the reverse SDE with the denoiser frozen.

    x_s = D + (s/t)^2 (x - D) + (s/t) sqrt(t^2 - s^2) z. Also known as DDPM's posterior and as SDE-DPM-Solver-1.
    """
    ratio = per_image(sigma_next / sigma, x)
    spread = per_image((sigma**2 - sigma_next**2).clamp(min=0).sqrt(), x)
    return denoised + ratio**2 * (x - denoised) + ratio * spread * noise


def euler_maruyama_step(
    x: Float[Tensor, "batch *shape"],
    denoised: Float[Tensor, "batch *shape"],
    sigma: Float[Tensor, " batch"],
    sigma_next: Float[Tensor, " batch"],
    noise: Float[Tensor, "batch *shape"],
) -> Float[Tensor, "batch *shape"]:
    """One Euler-Maruyama step of the reverse SDE, its drift taken at t.

    x_s = x - 2 (t - s) (x - D) / t + sqrt(2 t (t - s)) z.
    """
    length = (sigma - sigma_next).clamp(min=0)
    return x - per_image(2 * length / sigma, x) * (x - denoised) + per_image((2 * sigma * length).sqrt(), x) * noise


def _levels(
    sigma: Float[Tensor, " batch"], sigma_next: Float[Tensor, " batch"], *, steps: int
) -> Float[Tensor, "steps_and_one batch"]:
    if steps == 1:
        return torch.stack([sigma, sigma_next])
    high, low = sigma ** (1 / _RHO), sigma_next ** (1 / _RHO)
    between = [(high + number / steps * (low - high)) ** _RHO for number in range(1, steps)]
    return torch.stack([sigma, *between, sigma_next])
