"""The moving averages: their widths in images, and averages rebuilt from others."""

import pytest
import torch
from torch import Tensor

from workers.contract.model import ExponentialMovingAverage, PowerFunctionAverage, average_names
from workers.diffusion.ema import decays, power_exponent, update_ema
from workers.diffusion.posthoc import Profile, combination

BATCH = 10
WIDTHS = (0.05, 0.10)


def exponential(images_seen: int, **changes: float) -> float:
    config = ExponentialMovingAverage(kind="exponential", halflife_images=1000, **changes)
    (decay,) = decays(config, batch_images=100, images_seen=images_seen)
    return decay


def walk(steps: int, *, seed: int = 0) -> Tensor:
    """Weights on a random walk away from a common start, as those of a network are: [steps, 256]."""
    moves = torch.randn(steps, 256, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 10 + moves.cumsum(0)


def tracked(weights: Tensor, *widths: float) -> list[Tensor]:
    """For each width, the average after every step of `BATCH` images, as training keeps it."""
    config = PowerFunctionAverage(kind="power", relative_widths=widths)
    averages, history = [torch.full_like(weights[0], torch.pi) for _ in widths], []
    for number, current in enumerate(weights, start=1):
        shares = decays(config, batch_images=BATCH, images_seen=number * BATCH)
        for average, share in zip(averages, shares, strict=True):
            update_ema([average], [current], share)
        history.append(torch.stack(averages))
    return list(torch.stack(history, dim=1))


def reconstruction_error(weights: Tensor, *, width: float, snapshots: int) -> tuple[float, float]:
    """Relative error of an average rebuilt from snapshots of two: of its weights, and as predicted of its profile."""
    steps = range(len(weights) // snapshots, len(weights) + 1, len(weights) // snapshots)
    stored = tracked(weights, *WIDTHS)
    profiles = [Profile(power_exponent(each), step * BATCH) for step in steps for each in WIDTHS]
    found = combination(profiles, Profile(power_exponent(width), len(weights) * BATCH))
    averages = torch.stack([average[step - 1] for step in steps for average in stored])
    rebuilt = torch.tensor(found.coefficients, dtype=torch.float64) @ averages
    (truth,) = tracked(weights, width)
    return float((rebuilt - truth[-1]).norm() / truth[-1].norm()), found.relative_error


def test_half_of_the_average_is_forgotten_after_a_half_life() -> None:
    assert exponential(10**9) ** 10 == pytest.approx(0.5)


def test_the_half_life_is_shorter_at_the_start() -> None:
    assert exponential(2000, rampup_ratio=0.05) == pytest.approx(0.5)
    assert exponential(0) == 0


def test_a_run_that_starts_trained_keeps_its_first_average() -> None:
    config = ExponentialMovingAverage(kind="exponential", halflife_images=1000)

    (kept,) = decays(config, batch_images=100, images_seen=100, starts_trained=True)

    assert kept**10 == pytest.approx(0.5)


def test_the_average_moves_in_place() -> None:
    average, weights = [torch.zeros(3)], [torch.ones(3)]

    update_ema(average, weights, 0.75)

    assert average[0].tolist() == [0.25] * 3


@pytest.mark.parametrize("width", [0.001, 0.05, 0.1, 0.2, 0.279])
def test_a_profile_is_as_wide_as_it_was_asked_to_be(width: float) -> None:
    gamma = power_exponent(width)
    edges = torch.linspace(0, 1, 400_001, dtype=torch.float64)
    times = (edges[1:] + edges[:-1]) / 2
    density = times**gamma / (times**gamma).sum()

    mean = (times * density).sum()
    spread = float(((times - mean).square() * density).sum().sqrt())

    assert gamma > 0
    assert spread == pytest.approx(width, rel=1e-5)


def test_the_published_exponents_are_found() -> None:
    """Karras et al. 2024, section 3.1: widths of 5 and 10 % are gamma of about 16.97 and 6.94."""
    assert [round(power_exponent(width), 2) for width in WIDTHS] == [16.97, 6.94]


@pytest.mark.parametrize("width", [0.05, 0.25])
def test_the_running_average_is_the_power_function_weighted_sum_of_all_weights(width: float) -> None:
    weights = walk(300)
    exponent = power_exponent(width) + 1
    edges = (torch.arange(301, dtype=torch.float64) / 300) ** exponent

    (average,) = tracked(weights, width)

    assert torch.allclose(average[-1], (edges[1:] - edges[:-1]) @ weights, rtol=1e-12)


def test_nothing_of_the_random_start_is_left_in_a_power_function_average() -> None:
    weights = walk(1)

    (average,) = tracked(weights, 0.1)

    assert torch.equal(average[0], weights[0])


@pytest.mark.parametrize("width", [0.03, 0.07, 0.15, 0.2])
def test_an_average_of_a_third_width_is_rebuilt_from_snapshots_of_two_and_better_from_more(width: float) -> None:
    weights = walk(1600)

    errors = [reconstruction_error(weights, width=width, snapshots=number) for number in (10, 20, 40)]

    in_weights, of_profile = zip(*errors, strict=True)
    assert in_weights[1] < 2e-3
    assert in_weights[2] < 3e-4
    assert of_profile[2] < 1e-2
    assert sorted(in_weights, reverse=True) == list(in_weights)
    assert sorted(of_profile, reverse=True) == list(of_profile)


def test_the_predicted_error_is_what_weights_without_memory_show() -> None:
    """White noise meets every part of a profile alike, so its average is off by the L2 distance of the profiles."""
    noise = torch.randn(1600, 4096, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    in_weights, of_profile = reconstruction_error(noise, width=0.2, snapshots=10)

    assert in_weights == pytest.approx(of_profile, rel=0.15)


@pytest.mark.parametrize("number", [0, 7, 19])
def test_a_stored_profile_is_rebuilt_from_itself_alone(number: int) -> None:
    profiles = [Profile(power_exponent(width), 500 * step) for step in range(1, 11) for width in WIDTHS]

    found = combination(profiles, profiles[number])

    assert found.coefficients[number] == pytest.approx(1, abs=1e-9)
    assert [place for place, value in enumerate(found.coefficients) if value] == [number]
    assert found.relative_error < 1e-6


def test_a_poor_fit_still_keeps_what_all_stored_weights_agree_on() -> None:
    found = combination([Profile(power_exponent(0.05), 1000)], Profile(power_exponent(0.25), 700))

    assert found.coefficients == (1.0,)
    assert found.relative_error > 0.5


def test_widths_have_names_of_their_own() -> None:
    config = PowerFunctionAverage(kind="power", relative_widths=(0.05, 0.1, 0.0501))

    assert average_names(config) == ("ema-0.050", "ema-0.100", "ema-0.0501")
    assert average_names(ExponentialMovingAverage(kind="exponential")) == ("ema",)
