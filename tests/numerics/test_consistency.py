"""The consistency estimators, against denoisers known in closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.oracles import GaussianDenoiser, RingDenoiser
from workers.diffusion.consistency import ancestral_step, symmetric, target
from workers.diffusion.denoiser import Denoise, edm_weight


def exact_violation(denoise: Denoise, x: Tensor, *, sigma: float, r: float) -> Tensor:
    """|| E[D(x_s, s)] - D(x_t, t) ||^2 per point of the plane, mean over its elements, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(16)
    pairs = torch.cartesian_prod(torch.tensor(nodes), torch.tensor(nodes)).float()
    weight = torch.cartesian_prod(torch.tensor(weights), torch.tensor(weights)).prod(1).float()
    t = torch.full((len(x),), sigma)
    here = denoise(x, t, None)
    there = torch.zeros_like(x)
    for noise, share in zip(pairs, weight / weight.sum(), strict=True):
        there += share * denoise(ancestral_step(x, here, t, t * (1 - r), noise.expand_as(x)), t * (1 - r), None)
    return (there - here).square().mean(1)


def noisy_points(count: int, sigma: float) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return RingDenoiser().sample(count, generator) + sigma * torch.randn(count, 2, generator=generator)


def test_an_ancestral_step_keeps_the_marginal_of_gaussian_data() -> None:
    generator = torch.Generator().manual_seed(0)
    scale, t, s = 0.5, 0.8, 0.6
    clean = scale * torch.randn(200_000, 1, generator=generator)
    x = clean + t * torch.randn(clean.shape, generator=generator)
    sigma, sigma_next = torch.full((len(x),), t), torch.full((len(x),), s)

    stepped = ancestral_step(x, clean, sigma, sigma_next, torch.randn(x.shape, generator=generator))

    assert float(stepped.var()) == pytest.approx(scale**2 + s**2, rel=0.01)
    assert float((stepped * x).mean()) == pytest.approx(scale**2 + s**2, rel=0.01)  # Cov(x_s, x_t) = Var(x_s)


def test_a_step_of_length_zero_goes_nowhere() -> None:
    x, denoised, noise = torch.randn(3, 4, 2)
    sigma = torch.tensor([0.002, 0.1, 1.0, 80.0])

    assert torch.allclose(ancestral_step(x, denoised, sigma, sigma, noise), x, atol=1e-6)


def test_the_exact_gaussian_denoiser_is_a_martingale() -> None:
    exact, wrong = GaussianDenoiser(0.5), GaussianDenoiser(0.3)

    def term(denoise: Denoise) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        x = 0.9 * torch.randn(100_000, 1, generator=generator)
        sigma = torch.full((len(x),), 0.75)
        noises = torch.randn(2, *x.shape, generator=generator)
        return symmetric(denoise, x, denoise(x, sigma, None), sigma, 0.8 * sigma, None, noises).mean()

    assert abs(float(term(exact))) < 1e-4
    # A linear denoiser c(s) x is a martingale only if c is that of some Gaussian; `wrong` is one too: consistency does
    # not tell which data a denoiser belongs to, so it must never be read as quality.
    assert abs(float(term(wrong))) < 1e-4


def test_the_symmetric_term_is_an_unbiased_estimate_of_the_violation() -> None:
    sigma, r, draws = 0.4, 0.25, 20_000
    wrong = RingDenoiser(inflation=1.0)
    points = noisy_points(8, sigma)
    x = points.repeat_interleave(draws, dim=0)
    t = torch.full((len(x),), sigma)
    noises = torch.randn(2, *x.shape, generator=torch.Generator().manual_seed(2))

    products = symmetric(wrong, x, wrong(x, t, None), t, t * (1 - r), None, noises).view(8, draws)

    error = (products.mean(1) - exact_violation(wrong, points, sigma=sigma, r=r)).abs()
    assert bool((error < 4.5 * products.std(1) / draws**0.5).all())


def test_one_ancestral_step_leaves_the_exact_ring_denoiser_nearly_a_martingale_and_a_wrong_one_not() -> None:
    sigma, r = 0.4, 0.25
    points = noisy_points(20_000, sigma)
    both_axes_weighted = 2 * float(edm_weight(torch.tensor([sigma]), 0.5))

    exact = float(exact_violation(RingDenoiser(), points, sigma=sigma, r=r).mean()) * both_axes_weighted
    wrong = float(exact_violation(RingDenoiser(inflation=1.0), points, sigma=sigma, r=r).mean()) * both_axes_weighted

    assert exact == pytest.approx(3.7e-3, abs=0.5e-3)  # the bias of the one step, 0.2 % of the DSM loss of 1.8
    assert wrong > 3 * exact


def test_gradients_flow_through_all_three_predictions_of_the_symmetric_term() -> None:
    scale = torch.tensor(0.5, requires_grad=True)
    x, noises = torch.randn(8, 2), torch.randn(2, 8, 2)
    sigma = torch.full((8,), 0.5)

    symmetric(_scaled_by(scale), x, scale * x, sigma, 0.8 * sigma, None, noises).mean().backward()

    step = [ancestral_step(x, 0.5 * x, sigma, 0.8 * sigma, noise) for noise in noises]
    gaps = [0.5 * (there - x) for there in step]
    expected = ((step[0] - x) * gaps[1] + gaps[0] * (step[1] - x)).mean()
    assert scale.grad is not None
    assert float(scale.grad) == pytest.approx(float(expected), rel=1e-5)


def test_the_target_term_pulls_the_prediction_and_leaves_the_target_alone() -> None:
    online = torch.tensor(0.5, requires_grad=True)
    frozen = torch.tensor(0.4, requires_grad=True)
    x, noise = torch.randn(8, 2), torch.randn(8, 2)
    sigma = torch.full((8,), 0.5)

    term = target(_scaled_by(frozen), x, online * x, sigma, 0.8 * sigma, None, noise)
    term.mean().backward()

    goal = 0.4 * ancestral_step(x, 0.5 * x, sigma, 0.8 * sigma, noise)
    assert online.grad is not None
    assert float(online.grad) == pytest.approx(float((2 * (0.5 * x - goal) * x).mean()), rel=1e-5)
    assert frozen.grad is None


def test_labels_reach_every_evaluation() -> None:
    seen: list[list[int]] = []

    def denoise(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        seen.append(labels.tolist())
        return x

    x, labels, sigma = torch.zeros(3, 2), torch.tensor([4, 5, 6]), torch.ones(3)
    symmetric(denoise, x, x, sigma, sigma, labels, torch.zeros(2, 3, 2))
    target(denoise, x, x, sigma, sigma, labels, torch.zeros(3, 2))

    assert seen == [[4, 5, 6, 4, 5, 6], [4, 5, 6]]


def _scaled_by(scale: Tensor) -> Denoise:
    def denoise(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        return scale * x

    return denoise
