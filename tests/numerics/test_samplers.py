"""The samplers, on data for which every step of theirs is known in closed form."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from tests.support.oracles import GaussianDenoiser, RingDenoiser
from workers.contract.model import Churn, Sampler
from workers.diffusion.conditions import UNCONDITIONAL, Conditions
from workers.diffusion.denoiser import Denoise
from workers.diffusion.samplers import evaluations, noise_levels, sample

STD = 0.5
UNBIASED = Churn(noise_scale=1.0)  # EDM's 1.003 widens what is drawn, on purpose
SAMPLERS = {
    "heun": Sampler(method="heun"),
    "euler": Sampler(method="euler"),
    "dpmpp_2m": Sampler(method="dpmpp_2m"),
    "ancestral": Sampler(method="ancestral"),
    "heun with churn": Sampler(method="heun", churn=UNBIASED),
    "euler with churn": Sampler(method="euler", churn=UNBIASED),
}
STOCHASTIC = [name for name in SAMPLERS if name not in ("heun", "euler", "dpmpp_2m")]
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def with_steps(sampler: Sampler, steps: int) -> Sampler:
    return sampler.model_copy(update={"steps": steps})


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def noise_like(latents: Tensor) -> Callable[[int], Tensor]:
    return lambda step: normal(*latents.shape, seed=1000 + step, dtype=latents.dtype)


def order(error: Callable[[int], float], steps: list[int]) -> float:
    """By which power of the step the error falls: the regression of one's logarithm on the other's."""
    slope, _ = np.polyfit(np.log(steps), np.log([error(count) for count in steps]), 1)
    return -float(slope)


def exact_gaussian_end(latents: Tensor) -> Tensor:
    """For N(0, STD^2) the ODE keeps x proportional to sqrt(STD^2 + sigma^2); the last step ends on D(x, sigma_min)."""
    x = 80 * latents * math.sqrt(STD**2 + 0.002**2) / math.sqrt(STD**2 + 80**2)
    return GaussianDenoiser(STD)(x, torch.full((len(x),), 0.002, dtype=x.dtype))


def end_variance(sampler: Sampler) -> float:
    """Of one element of what is drawn for N(0, STD^2), without Monte Carlo.

    For Gaussian data the end is a weighted sum of the latents and all noises. Each image here starts from one of them
    alone and so ends at its weight; the variance is the sum of the squares.
    """
    alone = torch.eye(sampler.steps + 1, dtype=torch.float64)
    ends = sample(GaussianDenoiser(STD), alone[0][:, None], sampler, noise=lambda step: alone[step + 1][:, None])
    return float(ends.square().sum())


def test_noise_levels_fall_from_sigma_max_to_sigma_min_to_zero() -> None:
    levels = noise_levels(Sampler(steps=18, sigma_min=0.002, sigma_max=80.0))

    assert len(levels) == 19
    assert (float(levels[0]), float(levels[-2])) == (80.0, 0.002)
    assert float(levels[-1]) == 0
    assert bool((levels.diff() < 0).all())


@pytest.mark.parametrize(("method", "expected"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_methods_converge_with_their_order_to_the_exact_solution_for_gaussian_data(method: str, expected: int) -> None:
    latents = normal(64, 3)

    def error(steps: int) -> float:
        drawn = sample(GaussianDenoiser(STD), latents, with_steps(SAMPLERS[method], steps))
        return float((drawn - exact_gaussian_end(latents)).abs().mean())

    assert order(error, [32, 64, 128, 256]) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize(("method", "expected"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_methods_converge_with_their_order_on_a_mixture(method: str, expected: int) -> None:
    latents = normal(64, 2)
    reference = sample(RingDenoiser(), latents, Sampler(method="heun", steps=1000))

    def error(steps: int) -> float:
        return float((sample(RingDenoiser(), latents, with_steps(SAMPLERS[method], steps)) - reference).abs().mean())

    assert order(error, [32, 64, 128, 256]) == pytest.approx(expected, abs=0.3)


def test_single_precision_is_enough_for_a_network() -> None:
    latents = normal(64, 3, dtype=torch.float32)

    drawn = sample(GaussianDenoiser(STD), latents, Sampler(method="heun", steps=512))

    assert drawn.dtype == torch.float32
    assert torch.allclose(drawn.double(), exact_gaussian_end(latents.double()), atol=1e-4)


def test_the_ancestral_sampler_keeps_the_mean_exactly_with_any_number_of_steps() -> None:
    """The mean end of given latents is the very first prediction: the exact denoiser is a martingale."""
    latents = normal(8, 3)
    prediction = GaussianDenoiser(STD)(80 * latents, torch.full((8,), 80.0, dtype=torch.float64))

    for steps in (2, 5, 40):
        mean = sample(  # linear in the noise, so its mean is the end without any
            GaussianDenoiser(STD), latents, Sampler(method="ancestral", steps=steps), noise=lambda _: latents * 0
        )
        assert torch.allclose(mean, prediction * STD**2 / (STD**2 + 0.002**2), rtol=2e-5)


def test_the_ancestral_sampler_reaches_the_variance_of_the_data_with_weak_order_one() -> None:
    def error(steps: int) -> float:
        return abs(end_variance(Sampler(method="ancestral", steps=steps)) - STD**2)

    assert order(error, [64, 128, 256, 512]) == pytest.approx(1, abs=0.1)
    assert error(512) < 0.03 * STD**2


@pytest.mark.parametrize(("method", "expected", "remainder"), [("euler", 1, 0.05), ("heun", 2, 0.002)])
def test_churn_keeps_the_variance_of_the_data(method: str, expected: int, remainder: float) -> None:
    sampler = SAMPLERS[f"{method} with churn"]

    def error(steps: int) -> float:
        return abs(end_variance(with_steps(sampler, steps)) - STD**2)

    assert order(error, [128, 256, 512]) == pytest.approx(expected, abs=0.2)
    assert error(512) < remainder * STD**2


def test_churn_acts_between_its_levels_only() -> None:
    latents = normal(4, 3)
    above = Sampler(churn=Churn(sigma_min=100.0, sigma_max=200.0))
    plain = sample(GaussianDenoiser(STD), latents, Sampler())

    assert torch.equal(sample(GaussianDenoiser(STD), latents, above, noise=noise_like(latents)), plain)
    churned = sample(GaussianDenoiser(STD), latents, SAMPLERS["heun with churn"], noise=noise_like(latents))
    assert not torch.allclose(churned, plain, atol=1e-3)


@pytest.mark.parametrize(("amount", "times"), [(1.0, 1.25), (100.0, math.sqrt(2))])
def test_churn_adds_noise_of_its_own_scale_and_never_more_than_there_is(amount: float, times: float) -> None:
    """Latents of zero hold none: what the denoiser sees first is what takes sigma from 80 to so many times that."""
    seen: list[tuple[float, float]] = []

    def watched(x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        seen.append((float(x), float(sigma)))
        return torch.zeros_like(x)

    churn = Churn(amount=amount, noise_scale=1.5, sigma_min=0.0, sigma_max=100.0)
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    sample(watched, zero, Sampler(method="euler", steps=4, churn=churn), noise=lambda _: one)

    assert seen[0] == pytest.approx((80 * math.sqrt(times**2 - 1) * 1.5, 80 * times))


@pytest.mark.parametrize(("at", "churned_step"), [(38.0, 0), (0.002, 3)])
def test_churn_acts_at_its_own_levels_too(at: float, churned_step: int) -> None:
    """Also where these are the first and the last."""
    sampler = Sampler(method="euler", steps=4, sigma_max=38.0, churn=Churn(sigma_min=at, sigma_max=at))
    latents, steps = normal(1, 1), list[int]()

    sample(GaussianDenoiser(STD), latents, sampler, noise=lambda step: steps.append(step) or latents)

    assert steps == [churned_step]


@each_sampler
def test_every_sampler_draws_from_a_mixture(sampler: Sampler) -> None:
    ring, latents = RingDenoiser(), normal(4000, 2)

    drawn = sample(ring, latents, with_steps(sampler, 200), noise=noise_like(latents))

    centres = ring.centres.double()
    nearest = torch.cdist(drawn, centres).argmin(dim=1)
    shares = nearest.bincount(minlength=8) / 4000
    assert float((shares - 1 / 8).abs().max()) < 4 * math.sqrt(1 / 8 * 7 / 8 / 4000)
    assert float((drawn - centres[nearest]).std()) == pytest.approx(ring.std, rel=0.06)


@each_sampler
def test_what_is_drawn_is_a_function_of_latents_and_noise_and_not_of_the_batch(sampler: Sampler) -> None:
    latents, sampler = normal(6, 3, dtype=torch.float32), with_steps(sampler, 5)
    noise = noise_like(latents)

    together = sample(GaussianDenoiser(STD), latents, sampler, noise=noise)

    apart = [
        sample(GaussianDenoiser(STD), latents[k, None], sampler, noise=lambda step, k=k: noise(step)[k, None])
        for k in range(6)
    ]
    assert torch.equal(together, torch.cat(apart))
    assert torch.equal(together, sample(GaussianDenoiser(STD), latents, sampler, noise=noise))


@each_sampler
def test_evaluations_are_as_many_as_promised_at_falling_levels(sampler: Sampler) -> None:
    levels: list[float] = []
    told: list[Conditions] = []

    def watched(x: Tensor, sigma: Float[Tensor, " batch"], conditions: Conditions = UNCONDITIONAL) -> Tensor:
        assert x.dtype == sigma.dtype == torch.float32
        levels.append(float(sigma[0]))
        told.append(conditions)
        return GaussianDenoiser(STD)(x, sigma)

    denoise: Denoise = watched
    latents, conditions = torch.ones(2, 3), Conditions(labels=torch.tensor([0, 1]))
    sample(denoise, latents, with_steps(sampler, 12), conditions=conditions, noise=noise_like(latents))

    assert len(levels) == evaluations(with_steps(sampler, 12)) == (23 if sampler.method == "heun" else 12)
    assert levels[-1] > 0
    assert all(each is conditions for each in told)
    if not sampler.churn:
        assert all(after <= before for before, after in pairwise(levels))


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_stochastic_sampler_asks_for_its_noise(name: str) -> None:
    with pytest.raises(TypeError, match="pass `noise`"):
        sample(GaussianDenoiser(STD), torch.ones(2, 3), SAMPLERS[name])
