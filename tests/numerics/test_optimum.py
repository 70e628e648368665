"""What training is after: the exact denoiser is the optimum of score matching, and a martingale of its own process."""

import math

import pytest
import torch
from torch import Tensor

from tests.support.oracles import MixtureDenoiser, RingDenoiser
from workers.contract.model import EDM
from workers.diffusion.conditions import UNCONDITIONAL, Conditions
from workers.diffusion.consistency import Start, ancestral_step, gaps, u_statistic
from workers.diffusion.denoiser import Denoise
from workers.diffusion.objective import Objective, Randomness
from workers.diffusion.preconditioning import loss_weight

FINITE_SET = MixtureDenoiser(torch.randn(12, 2, generator=torch.Generator().manual_seed(8)) / 2, std=0.0)
RING = RingDenoiser()
BLURRED = MixtureDenoiser(RING.centres, RING.std)


def drawn(exact: MixtureDenoiser, count: int, generator: torch.Generator) -> Tensor:
    which = torch.randint(len(exact.centres), (count,), generator=generator)
    return exact.centres[which] + exact.std * torch.randn(count, 2, generator=generator)


def inconsistency_along(exact: MixtureDenoiser, denoise: Denoise, *, sigma: float, r: float) -> float:
    """|| E[D(x_s, s) | x_t] - D(x_t, t) ||^2 along the exact reverse process, mean over points: without any bias."""
    generator, points, chains = torch.Generator().manual_seed(0), 500, 800
    x = drawn(exact, points, generator) + sigma * torch.randn(points, 2, generator=generator)
    t = torch.full((points,), sigma)
    ahead = torch.stack(
        [
            ancestral_step(
                x, exact.draw_clean(x, t, generator), t, t * (1 - r), torch.randn(x.shape, generator=generator)
            )
            for _ in range(chains)
        ]
    )
    return float(u_statistic(gaps(denoise, Start(x, denoise(x, t), t, t * (1 - r), UNCONDITIONAL), ahead)).mean())


@pytest.mark.parametrize("exact", [FINITE_SET, BLURRED], ids=["finite set", "Gaussian mixture"])
@pytest.mark.parametrize("sigma", [0.1, 0.4, 1.5])
def test_no_change_of_the_exact_denoiser_lowers_the_denoising_loss(exact: MixtureDenoiser, sigma: float) -> None:
    """loss(D + v) - loss(D) is E|v|^2, whatever v: the residual D - x_0 is orthogonal to all functions of x_t."""
    generator, count = torch.Generator().manual_seed(0), 200_000
    clean = drawn(exact, count, generator)
    x = clean + sigma * torch.randn(count, 2, generator=generator)
    residual = exact(x, torch.full((count,), sigma)) - clean

    for change in (0.1 * torch.ones(2), 0.1 * x, 0.1 * torch.sin(5 * x), -0.1 * exact(x, torch.full((count,), sigma))):
        crossed = (2 * residual * change).sum(1)
        assert abs(float(crossed.mean())) < 4.5 * float(crossed.std()) / math.sqrt(count)
        assert float(((residual + change).square() - residual.square()).sum(1).mean()) > 0


def test_the_objective_is_least_at_the_exact_denoiser() -> None:
    """The product's own DSM loss over its own noise levels; a change of 5 % either way is paired, so it shows."""

    class Scaled(torch.nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
            return self.factor * BLURRED(x, sigma)

        def weight(self, sigma: Tensor) -> Tensor:
            return loss_weight(EDM(kind="edm"), 0.5, sigma)

    generator = torch.Generator().manual_seed(0)
    clean = drawn(BLURRED, 100_000, generator)
    draws = Randomness((2,), EDM(kind="edm"), None).draw(generator, num_images=len(clean), sub=0)

    def losses(factor: float) -> Tensor:
        objective = Objective(Scaled(factor), None)  # type: ignore[arg-type] # all of a denoiser that is asked for
        dsm: Tensor = objective(clean, None, draws).dsm
        return dsm

    for factor in (0.95, 1.05):
        worse = losses(factor) - losses(1.0)
        assert float(worse.mean()) > 4.5 * float(worse.std()) / len(worse) ** 0.5


@pytest.mark.parametrize("exact", [FINITE_SET, BLURRED], ids=["finite set", "Gaussian mixture"])
@pytest.mark.parametrize(("sigma", "r"), [(0.2, 0.5), (0.4, 0.25), (0.8, 0.8)])
def test_the_exact_denoiser_is_a_martingale_along_its_reverse_process_and_a_wrong_one_is_not(
    exact: MixtureDenoiser, sigma: float, r: float
) -> None:
    def deaf(x: Tensor, level: Tensor, conditions: object = UNCONDITIONAL) -> Tensor:
        return exact(x, 0.6 * level)

    assert abs(inconsistency_along(exact, exact, sigma=sigma, r=r)) < 5e-5
    assert inconsistency_along(exact, deaf, sigma=sigma, r=r) > 5e-4
