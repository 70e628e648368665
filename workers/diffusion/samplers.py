"""Drawing images from a denoiser, from pure noise down to none."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from workers.contract.model import Sampler
from workers.diffusion.conditions import UNCONDITIONAL, Conditions
from workers.diffusion.consistency import ancestral_step
from workers.diffusion.denoiser import Denoise
from workers.diffusion.guidance import classifier_free

Noise = Callable[[int], Tensor]  # of a step, counted from 0: standard normal, shaped like the latents, on their device
_Predict = Callable[[Tensor, float], Tensor]
_AddNoise = Callable[[Tensor, float, int], tuple[Tensor, float]]

_LARGEST_GAMMA = math.sqrt(2) - 1  # at most as much new noise as there is already
_NOISE_MISSING = "this sampler is stochastic: pass `noise`, or choose heun, euler or dpmpp_2m without churn"


def noise_levels(sampler: Sampler) -> Float[Tensor, " steps_and_zero"]:
    """sigma_max > ... > sigma_min > 0, evenly spaced in sigma^(1/rho) but for the last (EDM, equation 5)."""
    ramp = torch.linspace(0, 1, sampler.steps, dtype=torch.float64)
    high, low = sampler.sigma_max ** (1 / sampler.rho), sampler.sigma_min ** (1 / sampler.rho)
    levels = (high + ramp * (low - high)) ** sampler.rho
    levels[0], levels[-1] = sampler.sigma_max, sampler.sigma_min  # or rounding may leave them outside intervals to them
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


def evaluations(sampler: Sampler) -> int:
    """Of the denoiser, for each image that `sample` draws; guidance takes two at a time, where it acts."""
    levels: list[float] = noise_levels(sampler).tolist()[:-1]
    match sampler.method:
        case "heun":
            evaluated = levels + levels[1:]
        case "euler" | "ancestral" | "dpmpp_2m":
            evaluated = levels
        case _:
            assert_never(sampler.method)
    return sum(2 if sampler.guides_at(level) else 1 for level in evaluated)


@torch.no_grad()
def sample(
    denoise: Denoise,
    latents: Float[Tensor, "batch *shape"],
    sampler: Sampler,
    *,
    conditions: Conditions = UNCONDITIONAL,
    noise: Noise | None = None,
) -> Float[Tensor, "batch *shape"]:
    """Draw the images that begin as `latents`, standard normal; a function of these, `noise` and nothing else.

    | method    | follows                  | order | evaluations of the denoiser |
    | heun      | probability-flow ODE     | 2     | 2 steps - 1                 |
    | euler     | the same (DDIM)          | 1     | steps                       |
    | dpmpp_2m  | the same                 | 2     | steps                       |
    | ancestral | reverse SDE, needs noise | 1     | steps                       |

    Guidance by the class is the sampler's, at the noise levels where it acts. Churn makes heun and euler stochastic, at
    no more evaluations. All end on a prediction, D at the lowest level. The state is kept in float64; the denoiser sees
    the latents' precision, which the images have too. An image does not depend on those drawn with it, and nothing
    waits for the device.

    Raises:
        TypeError: the sampler is stochastic and there is no `noise`; or it guides, and there are no labels.
    """
    guided = classifier_free(denoise, sampler.guidance)
    levels: list[float] = noise_levels(sampler).tolist()

    def predict(x: Tensor, sigma: float) -> Tensor:
        x = x.to(latents.dtype)
        chosen = guided if sampler.guides_at(sigma) else denoise
        return chosen(x, x.new_full((len(x),), sigma), conditions).double()

    x = latents.double() * levels[0]
    match sampler.method:
        case "heun":
            x = _heun(predict, x, levels, _churning(sampler, noise))
        case "euler":
            x = _euler(predict, x, levels, _churning(sampler, noise))
        case "ancestral":
            x = _ancestral(predict, x, levels, noise)
        case "dpmpp_2m":
            for _, _, denoised in dpmpp_2m_path(predict, x, levels):
                x = denoised
        case _:
            assert_never(sampler.method)
    return x.to(latents.dtype)


def _churning(sampler: Sampler, noise: Noise | None) -> _AddNoise:
    """What goes before each step: raise sigma to (1 + gamma) sigma by new noise (EDM, algorithm 2), or do nothing."""
    churn = sampler.churn
    if churn is None:
        return lambda x, sigma, _: (x, sigma)
    if noise is None:
        raise TypeError(_NOISE_MISSING)
    gamma = min(churn.amount / sampler.steps, _LARGEST_GAMMA)

    def add_noise(x: Tensor, sigma: float, step: int) -> tuple[Tensor, float]:
        if not churn.sigma_min <= sigma <= churn.sigma_max:
            return x, sigma
        raised = (1 + gamma) * sigma
        return x + math.sqrt(raised**2 - sigma**2) * churn.noise_scale * noise(step).double(), raised

    return add_noise


def _heun(predict: _Predict, x: Tensor, levels: list[float], add_noise: _AddNoise) -> Tensor:
    """Average the slopes (x - D) / sigma at both ends of a step (EDM, algorithm 1); at sigma = 0 there is none."""
    for step, (level, sigma_next) in enumerate(pairwise(levels)):
        x, sigma = add_noise(x, level, step)
        denoised = predict(x, sigma)
        euler = _euler_step(denoised, x, sigma_next / sigma)
        if sigma_next == 0:
            return euler
        slopes = (x - denoised) / sigma + (euler - predict(euler, sigma_next)) / sigma_next
        x = x + (sigma_next - sigma) * slopes / 2
    return x


def _euler(predict: _Predict, x: Tensor, levels: list[float], add_noise: _AddNoise) -> Tensor:
    for step, (level, sigma_next) in enumerate(pairwise(levels)):
        x, sigma = add_noise(x, level, step)
        x = _euler_step(predict(x, sigma), x, sigma_next / sigma)
    return x


def _ancestral(predict: _Predict, x: Tensor, levels: list[float], noise: Noise | None) -> Tensor:
    """Draw x at each level from q(x_s | x_t, x_0 = D), the exact reverse kernel if D were certain."""
    if noise is None:
        raise TypeError(_NOISE_MISSING)
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = predict(x, sigma)
        if sigma_next == 0:
            return denoised
        start, end = x.new_full((len(x),), sigma), x.new_full((len(x),), sigma_next)
        x = ancestral_step(x, denoised, start, end, noise(step).double())
    return x


def dpmpp_2m_path(predict: _Predict, x: Tensor, levels: Sequence[float]) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Sigma, x and D of each step from `x` at the first of `levels` down to the last, 0; the last D is the image.

    DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2) with alpha = 1, lambda = -ln sigma. D is
    extrapolated, linearly in lambda, from its last two values to the middle of the step. The first step has one only;
    the last is infinitely long in lambda, and keeps to the nearer.
    """
    before: tuple[Tensor, float] | None = None
    for sigma, sigma_next in pairwise(levels):
        denoised = extrapolated = predict(x, sigma)
        yield sigma, x, denoised
        if before and sigma_next > 0:
            denoised_before, sigma_before = before
            ratio = math.log(sigma_before / sigma) / math.log(sigma / sigma_next)
            extrapolated = denoised + (denoised - denoised_before) / (2 * ratio)
        x = _euler_step(extrapolated, x, sigma_next / sigma)
        before = denoised, sigma


def _euler_step(denoised: Tensor, x: Tensor, ratio: float) -> Tensor:
    """Go straight from x towards D until `ratio` of the noise is left: Euler's step; exactly D if none is."""
    return denoised + ratio * (x - denoised)
