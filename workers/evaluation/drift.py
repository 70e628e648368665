"""How good and how consistent a denoiser is, by noise level, without a feature network or an exact denoiser beside it.

Each measure returns what each image contributes at each level. An image's noise is a function of its own place in the
evaluation, so images can be shared out over workers: the parts, put together in order, are the same for any number of
them (up to how a device rounds batches of another size) and are reduced once, by `by_level`.

All values are means over an image's elements, weighted as in training: 1 / c_out^2 (EDM, Karras et al. 2022, table 1).
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise
from statistics import fmean, stdev
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from workers.contract.consistency import Antithetic4
from workers.contract.evaluation import Level, Measure
from workers.diffusion.conditions import Conditions
from workers.diffusion.consistency import Start, inconsistency
from workers.diffusion.denoiser import WeightedDenoise, mean_of_elements, per_image
from workers.diffusion.latents import normal_batch
from workers.diffusion.samplers import dpmpp_2m_path

# Evenly spaced in ln sigma, whose normal distribution in training covers the middle: four lie within its standard
# deviation. Of the samplers' range, 0.002 to 80, the ends are left out: below 0.01 noise is finer than the steps of
# 8 bits, 2 / 255, and above 40 next to nothing of an image can be told.
LEVELS = tuple(0.01 * 4000 ** (number / 11) for number in range(12))
R = 0.05  # (t - s) / t: shorter than in training, U[0, 0.3], for the sake of the bias (`drift_at_images`)
_LONGEST_STEP = 0.3  # of a path, relative to its sigma
_ESTIMATOR = Antithetic4(estimator="antithetic4")
_EVALUATIONS_OF_STEPS = 4  # two steps of its reverse process, each with its noise and with the opposite
_MOST_SHARES = 32
_DOMAIN = 0xD21F7  # keeps these draws apart from other uses of the same seed

ByLevel = Float[Tensor, "levels batch"]


class Purpose(IntEnum):
    """What noise is for; what serves different purposes is independent."""

    POINT = 0
    STEP = 1
    LATENT = 2


class Noises(Protocol):
    """Standard normal numbers, shaped like a batch of images, on its device; the same for the same arguments."""

    def __call__(self, purpose: Purpose, number: int) -> Float[Tensor, "batch *shape"]: ...


def noises_of(seed: int, places: Sequence[int], like: Float[Tensor, "batch *shape"]) -> Noises:
    """Those of the images at these places of the evaluation; drawn on the CPU, so alike on all kinds of device."""

    def noises(purpose: Purpose, number: int) -> Tensor:
        whose = [(seed, place, _DOMAIN, purpose, number) for place in places]
        return normal_batch(whose, like.shape[1:], like.device).to(like.dtype)

    return noises


def evaluations_at_images(levels: Sequence[float]) -> int:
    """Of the denoiser, for each image, by `denoising_loss` and `drift_at_images`."""
    return (2 + _EVALUATIONS_OF_STEPS) * len(levels)


def evaluations_on_own_paths(levels: Sequence[float], sigma_max: float) -> int:
    """Of the denoiser, for each image, by `drift_on_own_paths`."""
    return len(_path_levels(levels, sigma_max)) + _EVALUATIONS_OF_STEPS * len(levels)


class Drift(NamedTuple):
    """What is measured at the points x_t of each level, noisy images or a denoiser's own."""

    gap: ByLevel  # w(t) || E[D(x_s, s) | x_t] - D(x_t, t) ||^2; unbiased, so at times negative
    energy: ByLevel  # || D(x_t, t) ||^2, not weighted


@torch.no_grad()
def denoising_loss(
    denoise: WeightedDenoise,
    images: Float[Tensor, "batch *shape"],
    conditions: Conditions,
    levels: Sequence[float],
    noises: Noises,
) -> ByLevel:
    """w(sigma) || D(x_0 + sigma n, sigma) - x_0 ||^2; images are scaled to [-1, 1].

    Of order 1 at each level. Where held-out images have a higher loss than training images, the network has learned
    these by heart: at intermediate levels, since little noise hides nothing, and much noise hides which image it is.
    """
    losses = []
    for number, level in enumerate(levels):
        x, sigma = _noised(images, level, noises(Purpose.POINT, number))
        losses.append(denoise.weight(sigma) * mean_of_elements((denoise(x, sigma, conditions) - images).square()))
    return torch.stack(losses)


@torch.no_grad()
def drift_at_images(
    denoise: WeightedDenoise,
    images: Float[Tensor, "batch *shape"],
    conditions: Conditions,
    levels: Sequence[float],
    noises: Noises,
    *,
    r: float = R,
) -> Drift:
    """The martingale gap between t and s = (1 - r) t at noisy images, the points of `denoising_loss`.

    A consistent denoiser has none (Daras et al. 2023). The stretch of reverse process is one ancestral step, whose
    mean is exact and whose variance lacks (1 - s^2 / t^2)^2 Cov[x_0 | x_t]. So the exact denoiser, too, shows a gap: of
    order r^4, where that of an inconsistent one is of order r^2. On a ring of Gaussians it is at most 2e-5 at r = 0.05
    (0.003 % of the loss), 1e-4 at 0.1 and 9e-4 at 0.2. The same denoiser told 0.6 sigma shows up to 8e-4, 1.6e-3 and
    3e-3, but at sigma = 0.2 it is told from the exact one by factors of 30, 7 and 0.7: longer stretches hide what they
    are to find. Compare gaps of one r only.

    The product of two antithetic means (`antithetic4`, five evaluations a level with the one at x_t) is free of the
    variance of D(x_s, s), which is hundreds of times larger. What rounding does to D(x_t, t) is in both factors:
    evaluate in float32. In bfloat16 a small trained U-Net shows 6e-3 instead of 1e-4 at sigma = 0.01, and still more
    than twice as much at 0.1.

    A small gap is no quality: D(x) = x has none, nor has the exact denoiser of any other data. Read it beside the loss.
    """
    measured = []
    for number, level in enumerate(levels):
        x, sigma = _noised(images, level, noises(Purpose.POINT, number))
        start = Start(x, denoise(x, sigma, conditions), sigma, (1 - r) * sigma, conditions)
        measured.append(_drift_at(denoise, start, number, noises))
    return _stacked(measured)


@torch.no_grad()
def drift_on_own_paths(
    denoise: WeightedDenoise,
    conditions: Conditions,
    levels: Sequence[float],
    noises: Noises,
    *,
    sigma_max: float,
) -> Drift:
    """The same at points of the denoiser's own paths from pure noise: sampling drift, as far as it shows in itself.

    Score matching teaches a denoiser at noisy images only. Sampling goes where its errors lead, and it is there that
    consistency is meant to mend it. The exact denoiser is a martingale at every point, so a path that went astray does
    not by itself raise the gap. gap(own paths) / gap(images) of a level tells how much less consistent the denoiser
    is where sampling really goes; at about 1, or below, its paths lead to nothing that it knows less well. It is blind
    to a consistent denoiser of other data: then the energies differ, which for the exact denoiser agree within 1 %.
    Take `conditions` from the images that paths are compared with, or energies differ for that reason.

    Paths follow the probability-flow ODE, as most samplers do, by DPM-Solver++(2M), one evaluation a step, 35 steps at
    the default levels. As many ancestral steps lose a fifth of the data's variance even with the exact denoiser.

    Raises:
        ValueError: a level is above `sigma_max`.
    """
    if max(levels) > sigma_max:
        raise ValueError(f"no path from sigma = {sigma_max:g} passes through {max(levels):g}")
    number_of = {level: number for number, level in enumerate(levels)}
    measured = {}

    def predict(x: Tensor, sigma: float) -> Tensor:
        return denoise(x, x.new_full((len(x),), sigma), conditions)

    latents = sigma_max * noises(Purpose.LATENT, 0)
    for level, x, denoised in dpmpp_2m_path(predict, latents, [*_path_levels(levels, sigma_max), 0.0]):
        if level in number_of:
            sigma = x.new_full((len(x),), level)
            start = Start(x, denoised, sigma, (1 - R) * sigma, conditions)
            measured[level] = _drift_at(denoise, start, number_of[level], noises)
    return _stacked([measured[level] for level in levels])


def _noised(images: Tensor, level: float, noise: Tensor) -> tuple[Tensor, Float[Tensor, " batch"]]:
    sigma = images.new_full((len(images),), level)
    return images + per_image(sigma, images) * noise, sigma


def _drift_at(denoise: WeightedDenoise, start: Start, number: int, noises: Noises) -> tuple[Tensor, Tensor]:
    steps = torch.stack([noises(Purpose.STEP, 2 * number), noises(Purpose.STEP, 2 * number + 1)])
    gap = inconsistency(_ESTIMATOR, denoise, start, steps[None])
    return denoise.weight(start.sigma) * gap, mean_of_elements(start.denoised.square())


def _stacked(measured: Sequence[tuple[Tensor, Tensor]]) -> Drift:
    gaps, energies = zip(*measured, strict=True)
    return Drift(torch.stack(gaps), torch.stack(energies))


def _path_levels(levels: Sequence[float], sigma_max: float) -> list[float]:
    """From `sigma_max` down through all of `levels`, evenly in ln sigma in between."""
    path = [sigma_max]
    for high, low in pairwise(sorted({sigma_max, *levels}, reverse=True)):
        steps = math.ceil(math.log(high / low) / -math.log(1 - _LONGEST_STEP))
        path += [high * (low / high) ** (step / steps) for step in range(1, steps)] + [low]
    return path


def by_level(levels: Sequence[float], contributions: ByLevel) -> tuple[Level, ...]:
    """Reduce what all images contributed, in whatever order: sums are exact.

    Raises:
        ValueError: fewer than two images, or the denoiser is not finite at some level.
    """
    return tuple(_level(sigma, values) for sigma, values in zip(levels, contributions.tolist(), strict=True))


def over_levels(contributions: ByLevel) -> Measure:
    """The mean over images and over levels, which are evenly spaced in ln sigma; two images or more.

    A share is every n-th image: these may be in the order of their classes.
    """
    each = [fmean(levels) for levels in contributions.T.tolist()]
    count = min(_MOST_SHARES, len(each))
    shares = tuple(fmean(each[first::count]) for first in range(count))
    return Measure(value=fmean(each), standard_error=stdev(each) / math.sqrt(len(each)), shares=shares)


def _level(sigma: float, values: list[float]) -> Level:
    if len(values) < 2:
        raise ValueError("a standard error takes two images or more")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"the denoiser is not finite at sigma = {sigma:g}")
    error = stdev(values) / math.sqrt(len(values))
    return Level(sigma=sigma, mean=fmean(values), standard_error=error, count=len(values))
