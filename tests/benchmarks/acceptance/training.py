"""Train the product's objective on points of the plane, all seeds of an arm at once.

The weights of the seeds are stacked, and the product's `Objective` is mapped over them (`torch.func.vmap`). Gradients
of different seeds do not mix and Adam works element by element, so this is what separate runs compute, in a sixth of
the calls (tests/numerics/test_acceptance_rig.py).
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import fields, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from tests.benchmarks.acceptance.cases import Arm
from tests.support.oracles import RingDenoiser
from workers.contract.consistency import Consistency
from workers.contract.model import EDM, ExponentialMovingAverage
from workers.contract.networks import MLP
from workers.diffusion.conditions import NOTHING, Conditions
from workers.diffusion.consistency import ancestral_step
from workers.diffusion.denoiser import Denoise, Denoiser, per_image
from workers.diffusion.ema import decays, update_ema
from workers.diffusion.objective import Draws, Objective, Randomness, Terms
from workers.networks.mlp import FullyConnected

Weights = dict[str, Tensor]

RING = RingDenoiser(radius=0.68, std=0.05)
SIGMA_DATA = 0.5
BATCH = 128
LEARNING_RATE = 2e-3
_WARMUP_STEPS, _DECAY_SHARE, _LAST_RATE = 100, 0.3, 0.02
_EMA_SHARE = 0.05


def new_denoiser(seed: int) -> Denoiser:
    """The product's MLP with the random weights of a seed, the same in every arm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FullyConnected(MLP(kind="mlp", width=64, hidden_layers=3), num_features=2, num_classes=0)
    return Denoiser(network, preconditioning=EDM(kind="edm"), sigma_data=SIGMA_DATA)


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
    randomness = Randomness(shape=(2,), preconditioning=EDM(kind="edm"), term=arm.term)
    sub = round(arm.term.batch_fraction * BATCH) if arm.term else 0
    return points, randomness.draw(generator, num_images=BATCH, sub=sub)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, constant, then a linear fall over the last 30 % of the steps to 2 %; steps count from 1."""
    fall = max(_LAST_RATE, (steps - step + 1) / (_DECAY_SHARE * steps))
    return LEARNING_RATE * min(1.0, step / _WARMUP_STEPS, fall)


def ema_of(arm: Arm) -> ExponentialMovingAverage:
    """Half-life 5 % of the run, and of the steps so far."""
    halflife = round(_EMA_SHARE * arm.steps * BATCH)
    return ExponentialMovingAverage(kind="exponential", halflife_images=halflife, rampup_ratio=_EMA_SHARE)


def masked_loss(arm: Arm, objective: Objective | SquaredGap, terms: Terms) -> Float[Tensor, ""]:
    """The product's total, with DSM silent where the case hides it."""
    return objective.total(replace(terms, dsm=terms.dsm * ~arm.case.is_hidden(terms.sigma)))


def train(arm: Arm, seeds: Sequence[int]) -> Weights:
    """Train an arm from scratch and return the moving average of the weights, stacked: name -> [seeds, *shape]."""
    denoisers = [new_denoiser(seed) for seed in seeds]
    weights = stack_module_state(denoisers)[0]
    average = {name: value.detach().clone() for name, value in weights.items()}
    losses = _losses_of_seeds(arm, denoisers[0])
    optimizer = torch.optim.Adam(weights.values(), LEARNING_RATE, fused=True)
    for step, step_seed in enumerate(zip(*(step_seeds(seed, arm.steps) for seed in seeds), strict=True), start=1):
        points, draws = zip(*(draw_step(arm, each) for each in step_seed), strict=True)
        optimizer.param_groups[0]["lr"] = learning_rate(step, arm.steps)
        optimizer.zero_grad(set_to_none=True)
        losses(weights, average, torch.stack(points), _stacked(draws)).sum().backward()
        optimizer.step()
        (decay,) = decays(ema_of(arm), batch_images=BATCH, images_seen=step * BATCH)
        update_ema(list(average.values()), list(weights.values()), decay)
    return average


def _losses_of_seeds(arm: Arm, denoiser: Denoiser) -> Callable[[Weights, Weights, Tensor, Weights], Tensor]:
    """The product's loss as a function of stacked weights, averages, points and draws; one loss for each seed."""
    objective, frozen_denoiser = objective_of(arm, denoiser), deepcopy(denoiser)

    def loss(weights: Weights, average: Weights, points: Tensor, draws: Weights) -> Tensor:
        def frozen(x: Tensor, sigma: Tensor, conditions: Conditions = NOTHING) -> Tensor:
            return functional_call(frozen_denoiser, average, (x, sigma, conditions))

        named = {f"denoiser.{name}": value for name, value in weights.items()}
        inputs = (points, None, Draws(**draws, dropout=None))
        return masked_loss(arm, objective, functional_call(objective, named, inputs, {"frozen": frozen}))

    return vmap(loss)


def _stacked(draws: Sequence[Draws]) -> Weights:
    names = [field.name for field in fields(Draws) if field.name != "dropout"]
    return {name: torch.stack([getattr(each, name) for each in draws]) for name in names}


class StackedDenoiser:
    """The denoisers of all seeds as the product's samplers know one: points come seed by seed, equally many each."""

    def __init__(self, weights: Weights) -> None:
        template = new_denoiser(0)
        self.num_seeds = len(next(iter(weights.values())))
        self._weights = weights
        self._mapped = vmap(lambda weights, x, sigma: functional_call(template, weights, (x, sigma)))

    def __call__(
        self,
        x: Float[Tensor, "seeds_points 2"],
        sigma: Float[Tensor, " seeds_points"],
        conditions: Conditions = NOTHING,
    ) -> Float[Tensor, "seeds_points 2"]:
        with torch.no_grad():
            by_seed = [each.unflatten(0, (self.num_seeds, -1)) for each in (x, sigma)]
            return self._mapped(self._weights, *by_seed).flatten(0, 1)
