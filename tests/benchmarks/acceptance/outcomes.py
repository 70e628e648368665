"""Train and measure arms, several at a time, and compare what came out seed by seed."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import fmean, geometric_mean, stdev

import torch

from tests.benchmarks.acceptance.cases import Arm
from tests.benchmarks.acceptance.measures import measure
from tests.benchmarks.acceptance.training import BATCH, StackedDenoiser, draw_step, new_denoiser, objective_of, train
from tests.benchmarks.evaluations import Evaluations, counted


@dataclass(frozen=True, slots=True)
class Outcome:
    """What training an arm gave: each measure by seed."""

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


def outcome_of(arm: Arm, seeds: Sequence[int]) -> Outcome:
    """Train an arm for all seeds and measure it, on one thread."""
    torch.set_num_threads(1)
    begin = time.process_time()
    weights = train(arm, seeds)
    measured = measure(StackedDenoiser(weights), len(seeds), arm.case)
    return Outcome(arm, measured, evaluations_of(arm), time.process_time() - begin)


def outcomes_of(arms: Sequence[Arm], seeds: Sequence[int], *, processes: int) -> Iterator[Outcome]:
    """In the order of completion; the longest begin first, so that all processes end together."""

    def work(arm: Arm) -> float:
        return arm.steps * (2 + evaluations_of(arm).cost)  # as timed here: the rest of a step takes as long as two

    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(outcome_of, arm, seeds) for arm in sorted(arms, key=work, reverse=True)]
        for future in as_completed(futures):
            yield future.result()
