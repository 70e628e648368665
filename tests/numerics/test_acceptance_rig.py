"""The acceptance experiment measures what it says: its shortcuts change nothing, its measures know the truth."""

from copy import deepcopy
from itertools import chain

import pytest
import torch
from torch import Tensor, nn

from tests.benchmarks.acceptance.cases import (
    ANTITHETIC,
    ASYMMETRIC,
    BAND,
    HIGH,
    LOW,
    PAPER,
    QUARTER,
    SYMMETRIC,
    TARGET,
    Arm,
    Case,
    dsm,
)
from tests.benchmarks.acceptance.measures import measure, sliced_wasserstein, squared_mmd
from tests.benchmarks.acceptance.outcomes import evaluations_of, trained_at_once
from tests.benchmarks.acceptance.runs import steps_in_common, train
from tests.benchmarks.acceptance.stacking import apart, stacked
from tests.benchmarks.acceptance.training import (
    LEARNING_RATE,
    RING,
    draw_step,
    masked_loss,
    new_denoiser,
    objective_of,
    settings,
    step_seeds,
)
from tests.benchmarks.step_cost import SavedForBackward
from tests.support.oracles import RingDenoiser
from workers.contract.consistency import Target
from workers.diffusion.denoiser import Denoiser
from workers.diffusion.ema import update_ema

STEPS = 12


def trained_alone(arm: Arm, seed: int) -> Denoiser:
    """The moving average of one seed's weights, by the product's objective as it is, nothing stacked."""
    denoiser = new_denoiser(seed)
    average, objective = deepcopy(denoiser).requires_grad_(False), objective_of(arm, denoiser)
    optimizer = torch.optim.Adam(denoiser.parameters(), LEARNING_RATE, fused=True)
    for step, step_seed in enumerate(step_seeds(seed, arm.steps), start=1):
        points, draws = draw_step(arm, step_seed)
        optimizer.param_groups[0]["lr"], decay = settings(arm.steps, step)
        optimizer.zero_grad()
        masked_loss([arm], objective, objective(points, None, draws, frozen=average)).backward()
        optimizer.step()
        update_ema(list(average.parameters()), list(denoiser.parameters()), decay)
    return average


@pytest.mark.parametrize(
    "arm",
    [
        dsm(HIGH, STEPS),
        Arm(BAND, "symmetric 1/4", STEPS, QUARTER),
        Arm(HIGH, "target", STEPS, TARGET),
        Arm(HIGH, "paper", STEPS, PAPER),
        Arm(HIGH, "squared", STEPS, SYMMETRIC, squared=True),
    ],
    ids=lambda arm: arm.name,
)
def test_training_all_seeds_at_once_is_training_them_one_by_one(arm: Arm) -> None:
    ((_, joint),) = train([arm], seeds=(3, 4))

    alone = stacked([trained_alone(arm, seed) for seed in (3, 4)]).requires_grad_(False)
    begin = stacked([new_denoiser(seed) for seed in (3, 4)]).requires_grad_(False)
    for found, expected, first in zip(*(each.parameters() for each in (joint, alone, begin)), strict=True):
        assert float((found - expected).abs().max()) < 1e-3 * float((expected - first).abs().max())
        assert not torch.allclose(*found)


def test_a_stacked_denoiser_is_its_denoisers_side_by_side() -> None:
    denoisers = [new_denoiser(seed) for seed in (0, 1)]
    for parameter in chain(*(each.parameters() for each in denoisers)):
        nn.init.normal_(parameter)  # the network's first output is next to nothing
    x, sigma = torch.randn(2, 5, 2), torch.rand(2, 5) + 0.1

    found = stacked(denoisers)(x.transpose(0, 1).flatten(0, 1), sigma.T.flatten())

    expected = torch.stack([each(*of_seed) for each, *of_seed in zip(denoisers, x, sigma, strict=True)])
    assert torch.allclose(apart(found, 2), expected, atol=1e-6)


@pytest.mark.parametrize("term", [None, TARGET], ids=["DSM", "target"])
def test_arms_that_are_trained_at_once_end_as_if_each_were_trained_alone(term: Target | None) -> None:
    arms = [Arm(case, "", steps, term) for case, steps in ((HIGH, 50), (HIGH, 30), (BAND, 30), (LOW, 40))]

    together = dict(train(arms, seeds=(3, 4)))

    assert together.keys() == set(arms)
    for arm, average in together.items():
        ((_, alone),) = train([arm], seeds=(3, 4))
        assert all(map(torch.equal, average.parameters(), alone.parameters()))


def test_runs_have_their_first_steps_in_common_until_the_learning_rate_of_the_shorter_one_falls() -> None:
    assert steps_in_common(3000, 17000) == 2101  # 70 %, and the step from which it falls
    assert step_seeds(3, steps=5) == step_seeds(3, steps=9)[:5]


def test_arms_that_differ_in_case_and_steps_alone_are_trained_at_once() -> None:
    plain = [dsm(HIGH, 1), dsm(HIGH, 2), dsm(BAND, 2)]
    quarter, whole = Arm(HIGH, "symmetric 1/4", 1, QUARTER), Arm(HIGH, "symmetric", 1, SYMMETRIC)
    squared = Arm(HIGH, "squared", 1, SYMMETRIC, squared=True)

    assert trained_at_once([*plain, quarter, whole, squared]) == [plain, [quarter], [whole], [squared]]


def test_all_arms_of_a_seed_train_on_the_same_points_and_noise_levels() -> None:
    (plain, draws), (points, with_term) = (draw_step(arm, 7) for arm in (dsm(HIGH, 1), Arm(BAND, "paper", 1, PAPER)))

    assert torch.equal(plain, points)
    assert torch.equal(draws.sigma, with_term.sigma)
    assert torch.equal(draws.noise, with_term.noise)


def test_a_case_hides_the_levels_strictly_between_its_bounds_and_the_ordinary_case_none() -> None:
    sigma = torch.tensor([0.1, 0.15, 0.2, 0.6, 50.0])

    assert BAND.is_hidden(sigma).tolist() == [False, False, True, False, False]
    assert HIGH.is_hidden(sigma).tolist() == [False, False, False, True, True]
    assert not Case("", "").is_hidden(sigma).any()


@pytest.mark.parametrize(
    ("arm", "with_gradient", "without"),
    [
        (dsm(HIGH, 1), 1, 0),
        (Arm(HIGH, "", 1, SYMMETRIC), 3, 0),
        (Arm(HIGH, "", 1, QUARTER), 1.5, 0),
        (Arm(HIGH, "", 1, ASYMMETRIC), 2, 1),
        (Arm(HIGH, "", 1, TARGET), 1, 1),
        (Arm(HIGH, "", 1, ANTITHETIC), 5, 0),
        (Arm(HIGH, "", 1, PAPER), 3, 8),
    ],
)
def test_an_estimator_makes_as_many_evaluations_an_image_as_it_claims(
    arm: Arm, with_gradient: float, without: float
) -> None:
    found = evaluations_of(arm)

    assert (found.with_gradient, found.without) == (with_gradient, without)


def test_the_measures_find_no_error_in_the_exact_denoiser_and_much_in_a_wrong_one() -> None:
    exact = measure(RING, 1, HIGH)
    wrong = measure(RingDenoiser(RING.radius, RING.std, inflation=0.5), 1, HIGH)

    for name in ("on", "on_gap", "hot", "drift_h", "drift_s"):
        assert exact[name] == pytest.approx([0.0], abs=1e-9)
        assert wrong[name][0] > 0.05
    assert exact["viol"][0] < 3e-3 < wrong["viol"][0]  # what is left is the bias of one ancestral step
    for kind in ("h", "s"):
        assert exact[f"sw2_{kind}"][0] < 0.05
        assert abs(exact[f"mmd_{kind}"][0]) < 5e-3


def test_the_distances_of_samples_see_a_ring_that_is_too_small() -> None:
    generator = torch.Generator().manual_seed(0)
    data, again, shrunk = (RING.sample(2048, generator) * scale for scale in (1, 1, 0.9))

    near, far = torch.stack([again]), torch.stack([shrunk])

    assert float(sliced_wasserstein(near, data)) < 0.045 < float(sliced_wasserstein(far, data))
    assert abs(float(squared_mmd(near, data))) < 3e-3 < float(squared_mmd(far, data))


def test_memory_kept_for_the_backward_pass_counts_each_activation_once_and_no_parameter() -> None:
    layer = nn.Linear(4, 8)
    x = torch.ones(16, 4)

    def kept(forward: nn.Module, inputs: Tensor) -> int:
        with SavedForBackward(layer) as saved:
            forward(inputs).square().sum().backward()
        return saved.num_bytes

    assert kept(layer, x) == (16 * 4 + 16 * 8) * 4  # the input for the weight's gradient, the output for the square's
