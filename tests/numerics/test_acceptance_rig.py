"""The acceptance experiment measures what it says: its shortcuts change nothing, its measures know the truth."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from tests.benchmarks.acceptance.cases import (
    ANTITHETIC,
    ASYMMETRIC,
    BAND,
    HIGH,
    PAPER,
    QUARTER,
    SYMMETRIC,
    TARGET,
    Arm,
    Case,
    dsm,
)
from tests.benchmarks.acceptance.measures import measure, sliced_wasserstein, squared_mmd
from tests.benchmarks.acceptance.outcomes import evaluations_of
from tests.benchmarks.acceptance.training import (
    BATCH,
    LEARNING_RATE,
    RING,
    StackedDenoiser,
    draw_step,
    ema_of,
    learning_rate,
    masked_loss,
    new_denoiser,
    objective_of,
    step_seeds,
    train,
)
from tests.benchmarks.step_cost import SavedForBackward
from tests.support.oracles import RingDenoiser
from workers.diffusion.denoiser import Denoiser
from workers.diffusion.ema import decays, update_ema

STEPS = 12


def trained_alone(arm: Arm, seed: int) -> Denoiser:
    """The moving average of one seed's weights, by the product's objective as it is, nothing stacked or mapped."""
    denoiser = new_denoiser(seed)
    average, objective = deepcopy(denoiser), objective_of(arm, denoiser)
    optimizer = torch.optim.Adam(denoiser.parameters(), LEARNING_RATE, fused=True)
    for step, step_seed in enumerate(step_seeds(seed, arm.steps), start=1):
        points, draws = draw_step(arm, step_seed)
        optimizer.param_groups[0]["lr"] = learning_rate(step, arm.steps)
        optimizer.zero_grad()
        masked_loss(arm, objective, objective(points, None, draws, frozen=average)).backward()
        optimizer.step()
        (decay,) = decays(ema_of(arm), batch_images=BATCH, images_seen=step * BATCH)
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
    stacked = train(arm, seeds=(3, 4))

    alone = [trained_alone(arm, seed).state_dict() for seed in (3, 4)]
    for name, values in stacked.items():
        moved = (alone[0][name] - new_denoiser(3).state_dict()[name]).abs().max()
        for value, expected in zip(values, alone, strict=True):
            assert float((value - expected[name]).abs().max()) < 1e-3 * float(moved)
    assert not torch.allclose(*stacked["network.hidden.0.weight"])


def test_a_stacked_denoiser_is_its_denoisers_side_by_side() -> None:
    denoisers = [new_denoiser(seed) for seed in (0, 1)]
    x, sigma = torch.randn(10, 2), torch.rand(10) + 0.1

    stacked = StackedDenoiser(torch.func.stack_module_state(denoisers)[0])(x, sigma)

    apart = [each(part, level) for each, part, level in zip(denoisers, x.split(5), sigma.split(5), strict=True)]
    assert torch.allclose(stacked, torch.cat(apart), atol=1e-6)


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
