"""Is the consistency term zero where it should be: at the exact denoiser of a ring of standard deviation 0.10.

With the exact reverse kernel it is; with one ancestral step in its place the bias is known; the product of an
antithetic pair, which looks like an estimator and is none, is far below zero.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from tests.benchmarks.acceptance.training import SIGMA_DATA
from tests.support.oracles import MixtureDenoiser, RingDenoiser
from workers.contract.consistency import Symmetric
from workers.contract.model import EDM
from workers.diffusion.conditions import UNCONDITIONAL
from workers.diffusion.consistency import Start, ancestral_step, inconsistency, u_statistic
from workers.diffusion.preconditioning import loss_weight

EXACT = RingDenoiser(radius=0.68, std=0.10)
T, R = 0.4, 0.25
_CHUNKS, _POINTS, _DRAWS = 6, 200, 2000


@dataclass(frozen=True, slots=True)
class Mean:
    """Of w(t) times the product of two gaps, summed over the coordinates; the error is that over the points x_t."""

    value: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.value:.2e} ± {self.standard_error:.0e}"


def one_ancestral_step() -> Mean:
    """The product's estimator, over all pairs of 2000 draws from each of 1200 points."""

    def products(start: Start, generator: Generator) -> Tensor:
        noises = _normal(1, _DRAWS, *start.x.shape, generator=generator)
        return inconsistency(Symmetric(estimator="symmetric"), EXACT, start, noises)

    return _mean(products)


def exact_kernel() -> Mean:
    """The same, from x_s ~ q(x_s | x_t) itself: draw the image behind x_t, then the bridge between the two."""

    def products(start: Start, generator: Generator) -> Tensor:
        noises = _normal(_DRAWS, *start.x.shape, generator=generator)
        gaps = torch.stack([_exact_gap(start, noise, generator) for noise in noises])
        return u_statistic(gaps)

    return _mean(products)


def antithetic_product() -> Mean:
    """The trap: the product's formula fed with noises z and -z, whose gaps are anti-correlated."""

    def products(start: Start, generator: Generator) -> Tensor:
        noise = _normal(1, 1, *start.x.shape, generator=generator)
        pair = torch.cat([noise, -noise], dim=1)
        return inconsistency(Symmetric(estimator="symmetric"), EXACT, start, pair)

    return _mean(products)


def _mean(products: Callable[[Start, Generator], Tensor]) -> Mean:
    """In float64: over thousands of draws the U-statistic is a small difference of large numbers."""
    generator = Generator().manual_seed(31)
    t = torch.full((_POINTS,), T, dtype=torch.float64)
    weight = 2 * loss_weight(EDM(kind="edm"), SIGMA_DATA, t)  # the product averages over the two coordinates
    values = []
    for _ in range(_CHUNKS):
        x = EXACT.sample(_POINTS, generator).double() + T * _normal(_POINTS, 2, generator=generator)
        start = Start(x=x, denoised=EXACT(x, t), sigma=t, sigma_next=(1 - R) * t, conditions=UNCONDITIONAL)
        values.append(weight * products(start, generator))
    all_values = torch.cat(values)
    return Mean(float(all_values.mean()), float(all_values.std()) / len(all_values) ** 0.5)


def _exact_gap(start: Start, noise: Tensor, generator: Generator) -> Float[Tensor, "points 2"]:
    image = MixtureDenoiser(EXACT.centres, EXACT.std).draw_clean(start.x, start.sigma, generator)
    x_next = ancestral_step(start.x, image, start.sigma, start.sigma_next, noise)
    return EXACT(x_next, start.sigma_next) - start.denoised


def _normal(*size: int, generator: Generator) -> Tensor:
    return torch.randn(size, generator=generator, dtype=torch.float64)
