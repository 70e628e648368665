"""The consistency estimators, against denoisers known in closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.oracles import GaussianDenoiser, RingDenoiser
from workers.contract.consistency import Antithetic4, Asymmetric, Consistency, Paper, Symmetric, Target
from workers.contract.model import Sampler
from workers.diffusion.conditions import UNCONDITIONAL, Conditions, draw_dropout
from workers.diffusion.consistency import (
    Start,
    ancestral_step,
    euler_maruyama_step,
    gaps,
    inconsistency,
    num_chains,
    reverse_process,
    u_statistic,
)
from workers.diffusion.denoiser import Denoise
from workers.diffusion.samplers import noise_levels

SIGMA_DATA = 0.5
SYMMETRIC = Symmetric(estimator="symmetric")
ASYMMETRIC = Asymmetric(estimator="asymmetric")
ANTITHETIC = Antithetic4(estimator="antithetic4")
TARGET = Target(estimator="target")
PAPER = Paper(estimator="paper")


def start_at(denoise: Denoise, x: Tensor, *, sigma: float, r: float, conditions: Conditions = UNCONDITIONAL) -> Start:
    t = torch.full((len(x),), sigma)
    return Start(x, denoise(x, t, conditions), t, t * (1 - r), conditions)


def noises_for(term: Consistency, x: Tensor, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(term.steps, num_chains(term), *x.shape, generator=generator)


def noisy_points(count: int, sigma: float) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return RingDenoiser().sample(count, generator) + sigma * torch.randn(count, 2, generator=generator)


def weight(sigma: float) -> float:
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2


def exact_violation(denoise: Denoise, x: Tensor, *, sigma: float, r: float) -> Tensor:
    """|| E[D(x_s, s)] - D(x_t, t) ||^2 per point of the plane after one ancestral step, mean over its elements."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(16)
    pairs = torch.cartesian_prod(torch.tensor(nodes), torch.tensor(nodes)).float()
    share = torch.cartesian_prod(torch.tensor(weights), torch.tensor(weights)).prod(1).float()
    start = start_at(denoise, x, sigma=sigma, r=r)
    expected = torch.zeros_like(x)
    for noise, part in zip(pairs, share / share.sum(), strict=True):
        x_next = ancestral_step(x, start.denoised, start.sigma, start.sigma_next, noise.expand_as(x))
        expected += part * denoise(x_next, start.sigma_next)
    return (expected - start.denoised).square().mean(1)


class Affine(torch.nn.Module):
    """A denoiser with a parameter: D(x, sigma) = scale x / (1 + sigma)."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        return self.scale * x / (1 + sigma[:, None])


def test_an_ancestral_step_keeps_the_marginal_of_gaussian_data() -> None:
    generator = torch.Generator().manual_seed(0)
    scale, t, s = 0.5, 0.8, 0.6
    clean = scale * torch.randn(200_000, 1, generator=generator)
    x = clean + t * torch.randn(clean.shape, generator=generator)
    sigma, sigma_next = torch.full((len(x),), t), torch.full((len(x),), s)

    stepped = ancestral_step(x, clean, sigma, sigma_next, torch.randn(x.shape, generator=generator))

    assert float(stepped.var()) == pytest.approx(scale**2 + s**2, rel=0.01)
    assert float((stepped * x).mean()) == pytest.approx(scale**2 + s**2, rel=0.01)  # Cov(x_s, x_t) = Var(x_s)


@pytest.mark.parametrize("step", [ancestral_step, euler_maruyama_step])
def test_a_step_of_length_zero_goes_nowhere(step: object) -> None:
    x, denoised, noise = torch.randn(3, 4, 2)
    sigma = torch.tensor([0.002, 0.1, 1.0, 80.0])

    assert callable(step)
    assert torch.allclose(step(x, denoised, sigma, sigma, noise), x, atol=1e-6)


@pytest.mark.parametrize("term", [SYMMETRIC, ASYMMETRIC, ANTITHETIC, PAPER], ids=lambda term: term.estimator)
def test_the_exact_gaussian_denoiser_is_a_martingale_and_half_of_it_is_not(term: Consistency) -> None:
    exact, other = GaussianDenoiser(0.5), GaussianDenoiser(0.3)

    def half(x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        return exact(x, sigma) / 2

    def measured(denoise: Denoise) -> tuple[float, float]:
        x = 0.9 * torch.randn(400_000, 1, generator=torch.Generator().manual_seed(3))
        estimates = inconsistency(term, denoise, start_at(denoise, x, sigma=0.75, r=0.3), noises_for(term, x))
        return float(estimates.mean()), 4.5 * float(estimates.std()) / len(x) ** 0.5 + 1e-7

    euler_bias = 5e-6 if term.estimator == "paper" else 0.0
    for consistent in (exact, other):
        # A linear denoiser c(s) x is a martingale if c is that of any Gaussian: consistency does not tell which data a
        # denoiser belongs to, so it must never be read as quality.
        value, error = measured(consistent)
        assert abs(value) < error + euler_bias
    value, error = measured(half)
    if term.estimator != "paper":  # its intervals here are not its own, and its products too noisy
        assert value > error


def test_antithetic_means_vary_far_less_than_as_many_samples() -> None:
    exact, points = RingDenoiser(inflation=0.3), noisy_points(50_000, 0.4)
    start = start_at(exact, points, sigma=0.4, r=0.25)
    four = Symmetric(estimator="symmetric", samples=4)

    samples, antithetic = (inconsistency(term, exact, start, noises_for(term, points)) for term in (four, ANTITHETIC))

    assert float(antithetic.var()) < 0.5 * float(samples.var())


def test_for_a_linear_denoiser_antithetic_noise_cancels() -> None:
    """Each image's value is then the violation itself; of the exact Gaussian denoiser, zero."""
    exact, x = GaussianDenoiser(0.5), torch.randn(100, 3, dtype=torch.float64)
    start = Start(
        x, exact(x, torch.full((100,), 0.75)), torch.full((100,), 0.75), torch.full((100,), 0.6), UNCONDITIONAL
    )

    estimates = inconsistency(ANTITHETIC, exact, start, noises_for(ANTITHETIC, x).double())

    assert float(estimates.abs().max()) < 1e-12


def test_one_ancestral_step_varies_less_than_five_of_euler_maruyama() -> None:
    exact, points = RingDenoiser(), noisy_points(50_000, 0.4)
    start = start_at(exact, points, sigma=0.4, r=0.25)
    five = Symmetric(estimator="symmetric", steps=5)

    ancestral = inconsistency(SYMMETRIC, exact, start, noises_for(SYMMETRIC, points))
    euler = u_statistic(
        gaps(exact, start, reverse_process(exact, start, noises_for(five, points), euler_maruyama_step))
    )

    assert float(ancestral.var()) < 0.8 * float(euler.var())


def test_the_steps_of_an_interval_are_spaced_as_those_of_the_sampler() -> None:
    """EDM, equation 5, between sigma and sigma'."""
    seen: list[float] = []

    def denoise(x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        seen.append(float(sigma[0]))
        return x

    x = torch.zeros(1, 2)
    start = start_at(denoise, x, sigma=1.0, r=0.5)
    reverse_process(denoise, start, torch.zeros(5, 1, 1, 2), ancestral_step)

    sampler = Sampler(steps=6, sigma_min=0.5, sigma_max=1.0)
    assert seen == pytest.approx(noise_levels(sampler).tolist()[:5])


@pytest.mark.parametrize(
    "term",
    [SYMMETRIC, Symmetric(estimator="symmetric", samples=4), ASYMMETRIC, ANTITHETIC],
    ids=["symmetric", "four samples", "asymmetric", "antithetic4"],
)
def test_the_terms_are_unbiased_estimates_of_the_violation(term: Consistency) -> None:
    sigma, r, draws = 0.4, 0.25, 20_000
    wrong = RingDenoiser(inflation=1.0)
    points = noisy_points(8, sigma)
    x = points.repeat_interleave(draws, dim=0)

    estimates = inconsistency(term, wrong, start_at(wrong, x, sigma=sigma, r=r), noises_for(term, x)).view(8, draws)

    error = (estimates.mean(1) - exact_violation(wrong, points, sigma=sigma, r=r)).abs()
    assert bool((error < 4.5 * estimates.std(1) / draws**0.5).all())


@pytest.mark.parametrize(
    ("sigma", "r", "step", "steps", "bias"),
    [
        (0.4, 0.25, euler_maruyama_step, 1, 4.4e-3),
        (0.4, 0.25, ancestral_step, 1, 3.2e-3),
        (0.4, 0.25, ancestral_step, 2, 1.1e-3),
        (0.2, 0.5, euler_maruyama_step, 1, 2.9e-2),
        (0.2, 0.5, ancestral_step, 1, 1.4e-2),
        (0.2, 0.5, ancestral_step, 2, 8.8e-3),
        (1.6, 0.5, euler_maruyama_step, 1, 1.1e-1),
        (1.6, 0.5, euler_maruyama_step, 5, 2.2e-3),
    ],
)
def test_the_bias_at_the_exact_denoiser_is_the_known_one(
    sigma: float, r: float, step: object, steps: int, bias: float
) -> None:
    """EDM-weighted and summed over both axes: what integrating the reverse process in few steps adds to a true zero."""
    exact, points, chains = RingDenoiser(), noisy_points(10_000, sigma), 100
    noises = torch.randn(steps, chains, *points.shape, generator=torch.Generator().manual_seed(4))
    start = start_at(exact, points, sigma=sigma, r=r)

    assert callable(step)
    measured = u_statistic(gaps(exact, start, reverse_process(exact, start, noises, step))).mean()

    assert 2 * weight(sigma) * float(measured) == pytest.approx(bias, rel=0.3)


@pytest.mark.parametrize(
    ("sigma", "r", "step", "steps"), [(0.4, 0.25, euler_maruyama_step, 5), (1.6, 0.5, ancestral_step, 1)]
)
def test_where_steps_are_accurate_next_to_no_bias_is_left(sigma: float, r: float, step: object, steps: int) -> None:
    exact, points = RingDenoiser(), noisy_points(10_000, sigma)
    noises = torch.randn(steps, 100, *points.shape, generator=torch.Generator().manual_seed(4))
    start = start_at(exact, points, sigma=sigma, r=r)

    assert callable(step)
    measured = u_statistic(gaps(exact, start, reverse_process(exact, start, noises, step))).mean()

    assert abs(2 * weight(sigma) * float(measured)) < 4e-4


def test_a_wrong_denoiser_is_clearly_inconsistent() -> None:
    points = noisy_points(20_000, 0.4)

    exact = float(exact_violation(RingDenoiser(), points, sigma=0.4, r=0.25).mean())
    wrong = float(exact_violation(RingDenoiser(inflation=1.0), points, sigma=0.4, r=0.25).mean())

    assert wrong > 3 * exact


def test_shortcuts_that_look_alike_are_not_estimates_of_the_violation() -> None:
    """Why they cannot be configured: one squares the variance in, one is unbounded below, one is biased."""
    sigma, r, draws = 0.4, 0.25, 4000
    exact, points = RingDenoiser(), noisy_points(200, 0.4)
    noise = torch.randn(1, draws, *points.shape, generator=torch.Generator().manual_seed(5))
    start = start_at(exact, points, sigma=sigma, r=r)
    ahead = gaps(exact, start, reverse_process(exact, start, noise, ancestral_step))
    mirrored = gaps(exact, start, reverse_process(exact, start, -noise, ancestral_step))
    truth = float(u_statistic(ahead).mean())

    single_squared = float(ahead.square().mean())
    antithetic_product = float((ahead * mirrored).mean())
    antithetic_square = float(((ahead + mirrored) / 2).square().mean())

    assert single_squared > 50 * truth
    assert antithetic_product < -20 * truth
    assert antithetic_square > 2 * truth


def test_asymmetric_has_half_the_symmetric_gradient_and_its_mirror_the_other_half() -> None:
    model, x = Affine(0.8), torch.randn(16, 2)
    noises = noises_for(SYMMETRIC, x)

    def gradient(term: Consistency, noises: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(
            inconsistency(term, model, start_at(model, x, sigma=0.5, r=0.2), noises).mean(), model.scale
        )
        return gradient

    halves = [gradient(ASYMMETRIC, order) for order in (noises, noises.flip(1))]

    assert float(sum(halves) / 2) == pytest.approx(float(gradient(SYMMETRIC, noises)), rel=1e-5)


def test_asymmetric_has_the_symmetric_value() -> None:
    model, x = Affine(0.8), torch.randn(16, 2)
    start, noises = start_at(model, x, sigma=0.5, r=0.2), noises_for(SYMMETRIC, x)

    symmetric, asymmetric = (inconsistency(term, model, start, noises) for term in (SYMMETRIC, ASYMMETRIC))

    assert torch.allclose(symmetric, asymmetric, atol=1e-6)


def test_paper_and_symmetric_differ_only_in_how_they_step() -> None:
    model, x = Affine(0.8), torch.randn(16, 2)
    start = start_at(model, x, sigma=0.5, r=0.2)
    noises = noises_for(PAPER, x)

    expected = u_statistic(gaps(model, start, reverse_process(model, start, noises, euler_maruyama_step)))

    assert torch.equal(inconsistency(PAPER, model, start, noises), expected)


def test_gradients_flow_through_all_three_predictions_of_the_symmetric_term() -> None:
    model, x, noises = Affine(0.5), torch.randn(8, 2), torch.randn(1, 2, 8, 2)
    start = start_at(model, x, sigma=0.5, r=0.2)

    inconsistency(SYMMETRIC, model, start, noises).mean().backward()

    here = x / 1.5
    there = [ancestral_step(x, 0.5 * here, start.sigma, start.sigma_next, noise) / 1.4 for noise in noises[0]]
    first, second = (0.5 * (point - here) for point in there)
    expected = ((there[0] - here) * second + first * (there[1] - here)).mean()
    assert model.scale.grad is not None
    assert float(model.scale.grad) == pytest.approx(float(expected), rel=1e-5)


def test_the_target_term_pulls_the_prediction_and_leaves_the_target_alone() -> None:
    online, frozen = Affine(0.5), Affine(0.4)
    x, noises = torch.randn(8, 2), torch.randn(1, 1, 8, 2)
    start = start_at(online, x, sigma=0.5, r=0.2)

    inconsistency(TARGET, online, start, noises, frozen).mean().backward()

    here = x / 1.5
    goal = 0.4 * ancestral_step(x, 0.5 * here, start.sigma, start.sigma_next, noises[0, 0]) / 1.4
    assert online.scale.grad is not None
    assert float(online.scale.grad) == pytest.approx(float((2 * (0.5 * here - goal) * here).mean()), rel=1e-5)
    assert frozen.scale.grad is None


def test_the_goal_of_the_target_term_is_predicted_without_dropout() -> None:
    told: list[Conditions] = []

    def frozen(x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        told.append(conditions)
        return x

    model, x = Affine(0.5), torch.randn(2, 2)
    dropout = draw_dropout(torch.Generator().manual_seed(0), num_images=2, probability=0.5, largest_layer=8)
    conditions = Conditions(labels=torch.tensor([4, 5]), dropout=dropout)
    start = start_at(model, x, sigma=0.5, r=0.2, conditions=conditions)

    inconsistency(TARGET, model, start, noises_for(TARGET, x), frozen)

    assert told == [Conditions(labels=conditions.labels)]


def test_the_target_estimator_says_what_it_lacks() -> None:
    model, x = Affine(0.5), torch.randn(8, 2)

    with pytest.raises(TypeError, match="frozen"):
        inconsistency(TARGET, model, start_at(model, x, sigma=0.5, r=0.2), noises_for(TARGET, x))


@pytest.mark.parametrize("term", [SYMMETRIC, ASYMMETRIC, ANTITHETIC, TARGET, PAPER], ids=lambda term: term.estimator)
def test_every_evaluation_is_told_the_same_as_the_first(term: Consistency) -> None:
    seen: list[Conditions] = []

    def denoise(x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        seen.append(conditions)
        return x

    x = torch.zeros(3, 2)
    told = Conditions(labels=torch.tensor([4, 5, 6]), augmentation=torch.eye(3))
    inconsistency(term, denoise, start_at(denoise, x, sigma=0.5, r=0.2, conditions=told), noises_for(term, x), denoise)

    assert len(seen) > 1
    for conditions in seen:
        assert conditions.labels is not None
        assert conditions.augmentation is not None
        assert conditions.labels.view(-1, 3).unique(dim=0).tolist() == [[4, 5, 6]]
        assert torch.equal(conditions.augmentation.view(-1, 3, 3)[-1], torch.eye(3))
