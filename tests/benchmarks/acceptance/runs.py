"""Train arms: what can be done at once is, and what is the same is done once.

The networks of all seeds and cases are stacked. Gradients of different networks do not mix and Adam works element by
element, so this is what separate runs compute. Arms that differ in their number of steps take the same ones until the
learning rate of the shorter one falls; there it branches off (tests/numerics/test_acceptance_rig.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import groupby, takewhile

import torch
from torch import Tensor

from tests.benchmarks.acceptance.cases import Arm
from tests.benchmarks.acceptance.stacking import draws_side_by_side, side_by_side, stacked
from tests.benchmarks.acceptance.training import (
    LEARNING_RATE,
    draw_step,
    masked_loss,
    new_denoiser,
    objective_of,
    settings,
    step_seeds,
)
from workers.diffusion.denoiser import Denoiser
from workers.diffusion.ema import update_ema


def train(arms: Sequence[Arm], seeds: Sequence[int]) -> Iterator[tuple[Arm, Denoiser]]:
    """Train arms, alike but for their cases and steps, from scratch; the shortest come first.

    Yields each with the moving average of its weights, those of all seeds stacked.
    """
    arms = sorted(arms, key=lambda arm: arm.steps)
    seeds_of_steps = list(zip(*(step_seeds(seed, arms[-1].steps) for seed in seeds), strict=True))
    longest = list({arm.case: arm for arm in arms}.values())  # of each case
    denoiser = stacked([new_denoiser(seed) for seed in seeds] * len(longest))
    trunk = Run(longest, denoiser, deepcopy(denoiser))
    for steps, leaving in groupby(arms, key=lambda arm: arm.steps):
        trunk = trunk.part([arm for arm in trunk.arms if arm.steps >= steps])
        trunk.advance(seeds_of_steps, until=steps_in_common(steps, arms[-1].steps))
        branch = trunk.part(list(leaving))
        branch.advance(seeds_of_steps, until=steps)
        yield from ((arm, branch.part([arm]).average) for arm in branch.arms)


def steps_in_common(steps: int, more: int) -> int:
    """How many first steps of two runs, alike but for their length, are the same."""
    alike = (settings(steps, step) == settings(more, step) for step in range(1, steps + 1))
    return sum(takewhile(bool, alike))


class Run:
    """The training of arms of different cases, for all seeds at once, as far as it has come.

    As far as that is, all arms have the settings of the first, whatever the number of their steps.
    """

    def __init__(self, arms: Sequence[Arm], denoiser: Denoiser, average: Denoiser, steps: int = 0) -> None:
        self.arms, self.average, self.steps = arms, average.requires_grad_(False), steps
        self.objective = objective_of(arms[0], denoiser)
        self.weights, self.averages = (_by_arm(each.parameters(), len(arms)) for each in (denoiser, average))
        self.optimizer = torch.optim.Adam(self.weights, LEARNING_RATE, fused=True)

    def advance(self, seeds_of_steps: Sequence[Sequence[int]], *, until: int) -> None:
        for of_step in seeds_of_steps[self.steps : until]:
            self.steps += 1
            rate, decay = settings(self.arms[0].steps, self.steps)
            self._find_gradients(of_step)
            self.optimizer.param_groups[0]["lr"] = rate
            self.optimizer.step()
            update_ema(self.averages, self.weights, decay)

    def _find_gradients(self, of_step: Sequence[int]) -> None:
        points, draws = zip(*(draw_step(self.arms[0], each) for each in of_step), strict=True)
        inputs = side_by_side(points * len(self.arms)), None, draws_side_by_side(draws * len(self.arms))
        self.objective.zero_grad()
        mean = masked_loss(self.arms, self.objective, self.objective(*inputs, frozen=self.average))
        of_all = len(self.arms) * len(of_step) * mean  # the sum: each network has the gradient of its own loss
        of_all.backward()  # type: ignore[no-untyped-call] # untyped in torch
        gradients = (weight.grad for weight in self.objective.parameters() if weight.grad is not None)
        for weight, gradient in zip(self.weights, _by_arm(gradients, len(self.arms)), strict=True):
            weight.grad = gradient

    def part(self, arms: Sequence[Arm]) -> "Run":
        """A copy that goes on as `arms`, whose cases are among those of this one."""
        cases = [arm.case for arm in self.arms]
        places = [cases.index(arm.case) for arm in arms]
        denoiser, average = deepcopy((self.objective.denoiser, self.average))
        for parameter in (*denoiser.parameters(), *average.parameters()):
            parameter.data = torch.cat([parameter.data.chunk(len(cases))[place] for place in places])
        run = Run(arms, denoiser, average, self.steps)
        kept = [self.weights[row + place] for row in range(0, len(self.weights), len(cases)) for place in places]
        for old, new in zip(kept, run.weights, strict=True):
            run.optimizer.state[new] = deepcopy(self.optimizer.state[old])
        return run


def _by_arm(tensors: Iterable[Tensor], num_arms: int) -> list[Tensor]:
    """Each arm's part of each, as a tensor of its own: kernels round the last elements of a tensor unlike others."""
    return [part for tensor in tensors for part in tensor.detach().chunk(num_arms)]
