"""Train and measure arms, several at a time, and compare what came out seed by seed."""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import fmean, geometric_mean, stdev

import torch

from tests.benchmarks.acceptance.cases import Arm
from tests.benchmarks.acceptance.measures import measure
from tests.benchmarks.acceptance.runs import train
from tests.benchmarks.acceptance.training import BATCH, draw_step, new_denoiser, objective_of
from tests.benchmarks.evaluations import Evaluations, counted
from workers.contract.consistency import Consistency


@dataclass(frozen=True, slots=True)
class Outcome:
    """What training an arm gave: each measure by seed.

    `cpu_seconds`, measuring included, are its share, by steps, of those of the arms that it was trained with.
    """

    arm: Arm
    measured: dict[str, list[float]]
    evaluations: Evaluations
    cpu_seconds: float

    @property
    def compute(self) -> float:
        """Of the whole training of one seed, in units of one forward pass of the batch."""
        return self.evaluations.cost * self.arm.steps

    def mean(self, name: str) -> float:
        return fmean(self.measured[name])

    def spread(self, name: str) -> float:
        """The standard deviation over the seeds."""
        return stdev(self.measured[name])


Outcomes = Mapping[str, Outcome]  # by the key of the arm


@dataclass(frozen=True, slots=True)
class Ratio:
    """A measure of one arm over that of another: geometric mean over seeds, and its range."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(outcome: Outcome, baseline: Outcome, name: str) -> Ratio:
    """Paired: a seed has the same first weights and training points in every arm."""
    pairs = zip(outcome.measured[name], baseline.measured[name], strict=True)
    ratios = [ours / theirs if theirs > 0 else math.nan for ours, theirs in pairs]
    positive = all(each > 0 for each in ratios)
    return Ratio(geometric_mean(ratios) if positive else fmean(ratios), min(ratios), max(ratios))


def baselines(outcome: Outcome, of_case: Iterable[Outcome]) -> tuple[Outcome, Outcome]:
    """The DSM run of as many steps, and the shortest of at least as much compute, or else the longest."""
    plain = sorted((each for each in of_case if each.arm.term is None), key=lambda each: each.compute)
    equal_steps = next(each for each in plain if each.arm.steps == outcome.arm.steps)
    return equal_steps, next((each for each in plain if each.compute >= outcome.compute), plain[-1])


def evaluations_of(arm: Arm) -> Evaluations:
    """Counted in one training step of the product's objective, those of the frozen average included."""
    denoiser = new_denoiser(0)
    frozen = deepcopy(denoiser)
    points, draws = draw_step(arm, 0)
    with counted(denoiser.network, frozen.network, num_images=BATCH) as evaluations:
        objective_of(arm, denoiser)(points, None, draws, frozen=frozen)
    return evaluations


def outcomes_of_group(arms: Sequence[Arm], seeds: Sequence[int]) -> list[Outcome]:
    """Train and measure arms that can be trained at once, for all seeds, on one thread."""
    torch.set_num_threads(1)
    begin = time.process_time()
    measured = {arm: measure(denoiser, len(seeds), arm.case) for arm, denoiser in train(arms, seeds)}
    seconds_a_step = (time.process_time() - begin) / sum(arm.steps for arm in arms)
    return [Outcome(arm, measured[arm], evaluations_of(arm), arm.steps * seconds_a_step) for arm in arms]


def outcomes_of(arms: Sequence[Arm], seeds: Sequence[int], *, processes: int) -> Iterator[Outcome]:
    """In the order of completion; the longest begin first, so that all processes end together."""

    def work(group: Sequence[Arm]) -> float:
        return sum(arm.steps for arm in group) * evaluations_of(group[0]).cost

    groups = sorted(trained_at_once(arms), key=work, reverse=True)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(outcomes_of_group, group, seeds) for group in groups]):
            yield from future.result()


def trained_at_once(arms: Iterable[Arm]) -> list[list[Arm]]:
    """Groups of arms that are alike but for their cases and steps."""
    groups = defaultdict[tuple[Consistency | None, bool], list[Arm]](list)
    for arm in arms:
        groups[arm.term, arm.squared].append(arm)
    return list(groups.values())
