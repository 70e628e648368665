"""What is trained: the product's objective, on points of the plane, with the product's randomness and averaging."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from tests.benchmarks.acceptance.cases import Arm
from tests.support.oracles import RingDenoiser
from workers.contract.consistency import Consistency
from workers.contract.model import EDM, ExponentialMovingAverage
from workers.contract.networks import MLP
from workers.diffusion.consistency import ancestral_step
from workers.diffusion.denoiser import Denoise, Denoiser, per_image
from workers.diffusion.ema import decays
from workers.diffusion.objective import Draws, Objective, Randomness, Terms
from workers.networks.mlp import FullyConnected

RING = RingDenoiser(radius=0.68, std=0.05)
PRECONDITIONING, SIGMA_DATA = EDM(kind="edm"), 0.5
BATCH = 128
LEARNING_RATE = 2e-3
_WARMUP_STEPS, _DECAY_SHARE, _LAST_RATE = 100, 0.3, 0.02
_EMA_SHARE = 0.05


def new_denoiser(seed: int) -> Denoiser:
    """The product's MLP with the random weights of a seed, the same in every arm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FullyConnected(MLP(kind="mlp", width=64, hidden_layers=3), num_features=2, num_classes=0)
    return Denoiser(network, preconditioning=PRECONDITIONING, sigma_data=SIGMA_DATA)


class SquaredGap(nn.Module):
    """The negative control: the square of a single gap, which holds the variance of D(x_s, s); not in the contract."""

    def __init__(self, denoiser: Denoiser, term: Consistency) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.objective = Objective(denoiser, term)

    def forward(self, images: Tensor, labels: None, draws: Draws, *, frozen: Denoise | None = None) -> Terms:
        x = images + per_image(draws.sigma, images) * draws.noise
        denoised, weight = self.denoiser(x, draws.sigma), self.denoiser.weight(draws.sigma)
        x_next = ancestral_step(x, denoised.detach(), draws.sigma, draws.sigma_next, draws.step_noises[0, 0])
        gap = self.denoiser(x_next, draws.sigma_next) - denoised
        squared, dsm = gap.square().mean(1), (denoised - images).square().mean(1)
        return Terms(draws.sigma, weight * dsm, weight * squared)

    def total(self, terms: Terms) -> Tensor:
        return self.objective.total(terms)


def objective_of(arm: Arm, denoiser: Denoiser) -> Objective | SquaredGap:
    if arm.squared:
        assert arm.term is not None
        return SquaredGap(denoiser, arm.term)
    return Objective(denoiser, arm.term)


def step_seeds(seed: int, steps: int) -> list[int]:
    """Seeds of the randomness of each step: the same points and noise levels in every arm, as far as they are drawn."""
    return [int(each >> np.uint64(1)) for each in np.random.SeedSequence([seed]).generate_state(steps, np.uint64)]


def draw_step(arm: Arm, step_seed: int) -> tuple[Float[Tensor, "batch 2"], Draws]:
    """The points of one step, fresh from the ring, and the product's randomness for them."""
    generator = Generator().manual_seed(step_seed)
    points = RING.sample(BATCH, generator)
    randomness = Randomness(shape=(2,), preconditioning=PRECONDITIONING, term=arm.term)
    sub = round(arm.term.batch_fraction * BATCH) if arm.term else 0
    return points, randomness.draw(generator, num_images=BATCH, sub=sub)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, constant, then a linear fall over the last 30 % of the steps to 2 %; steps count from 1."""
    fall = max(_LAST_RATE, (steps - step + 1) / (_DECAY_SHARE * steps))
    return LEARNING_RATE * min(1.0, step / _WARMUP_STEPS, fall)


def settings(steps: int, step: int) -> tuple[float, float]:
    """The learning rate, and the share of the average that survives, at a step of a run of `steps`.

    The half-life of the average is 5 % of the run, and of the steps so far.
    """
    halflife = round(_EMA_SHARE * steps * BATCH)
    average = ExponentialMovingAverage(kind="exponential", halflife_images=halflife, rampup_ratio=_EMA_SHARE)
    (decay,) = decays(average, batch_images=BATCH, images_seen=step * BATCH)
    return learning_rate(step, steps), decay


def masked_loss(arms: Sequence[Arm], objective: Objective | SquaredGap, terms: Terms) -> Float[Tensor, ""]:
    """The product's total, with DSM silent where the case of an arm hides it; the arms' points lie side by side."""
    by_arm = zip(arms, terms.sigma.view(BATCH, len(arms), -1).unbind(1), strict=True)
    hidden = torch.stack([arm.case.is_hidden(sigma) for arm, sigma in by_arm], 1).flatten()
    return objective.total(replace(terms, dsm=terms.dsm * ~hidden))
