"""Guided denoisers, on mixtures and Gaussians whose classes and conditional distributions are known."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from tests.support.oracles import CorrelatedDenoiser, GaussianDenoiser, MixtureDenoiser, RingDenoiser
from workers.contract.model import Churn, Sampler
from workers.diffusion.conditions import NO_CLASS, UNCONDITIONAL, Conditions, draw_dropout
from workers.diffusion.denoiser import Denoise
from workers.diffusion.guidance import autoguided, classifier_free, inpainting
from workers.diffusion.samplers import evaluations, sample

CENTRES = torch.tensor([[-0.6, 0.0], [0.6, 0.0], [0.0, 0.9]])
STD = 0.2
CLASSES = MixtureDenoiser(CENTRES, STD)
SAMPLERS = {
    "heun": Sampler(method="heun", steps=40),
    "euler": Sampler(method="euler", steps=200),
    "dpmpp_2m": Sampler(method="dpmpp_2m", steps=40),
    "ancestral": Sampler(method="ancestral", steps=200),
    "heun with churn": Sampler(method="heun", steps=80, churn=Churn(noise_scale=1.0)),
}
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noise_like(latents: Tensor) -> Callable[[int], Tensor]:
    return lambda step: normal(*latents.shape, seed=1000 + step)


def noisy_points() -> tuple[Tensor, Tensor, Conditions]:
    return normal(90, 2), normal(90).exp(), Conditions(labels=torch.arange(90) % 3)


def test_guidance_by_the_class_runs_from_no_class_at_0_over_plain_at_1_linearly_on() -> None:
    x, sigma, conditions = noisy_points()
    of_class, of_none = CLASSES(x, sigma, conditions), CLASSES(x, sigma)

    def guided(weight: float) -> Tensor:
        return classifier_free(CLASSES, weight)(x, sigma, conditions)

    assert not torch.allclose(of_class, of_none, atol=0.1)
    assert torch.equal(guided(1.0), of_class)
    assert torch.allclose(guided(0.0), of_none)
    for weight in (0.5, 1.5, 4.0):
        assert torch.allclose(guided(weight), of_none + weight * (of_class - of_none), atol=1e-6)


def test_guidance_by_the_class_is_one_evaluation_that_differs_in_the_label_alone() -> None:
    seen: list[tuple[Tensor, Tensor, Conditions]] = []

    def watched(x: Tensor, sigma: Float[Tensor, " batch"], conditions: Conditions = UNCONDITIONAL) -> Tensor:
        seen.append((x, sigma, conditions))
        return x

    x, sigma, labels = normal(3, 2), normal(3).exp(), torch.tensor([2, 0, 1])
    masks = draw_dropout(torch.Generator().manual_seed(0), num_images=3, probability=0.5, largest_layer=8)
    assert masks is not None
    denoise: Denoise = watched

    classifier_free(denoise, 2.0)(x, sigma, Conditions(labels, augmentation=torch.ones(3, 9), dropout=masks))

    [(points, levels, told)] = seen
    assert torch.equal(points, torch.cat([x, x]))
    assert torch.equal(levels, torch.cat([sigma, sigma]))
    assert told.labels is not None
    assert told.labels.tolist() == [2, 0, 1, NO_CLASS, NO_CLASS, NO_CLASS]
    assert told.augmentation is not None
    assert told.augmentation.shape == (6, 9)
    assert told.dropout is not None
    assert torch.equal(told.dropout.keys, masks.keys.repeat(2))


def test_guidance_by_the_class_asks_for_the_class() -> None:
    with pytest.raises(TypeError, match="labels"):
        classifier_free(CLASSES, 2.0)(normal(3, 2), torch.ones(3))


@each_sampler
def test_every_sampler_draws_the_class_that_it_is_told(sampler: Sampler) -> None:
    latents, labels = normal(3000, 2), torch.arange(3000) % 3

    drawn = sample(CLASSES, latents, sampler, conditions=Conditions(labels=labels), noise=noise_like(latents))

    for label in range(3):
        of_class = drawn[labels == label]
        assert torch.allclose(of_class.mean(dim=0), CENTRES[label], atol=4 * STD / math.sqrt(1000))
        assert torch.allclose(of_class.std(dim=0), torch.full((2,), STD), rtol=0.12)


@each_sampler
def test_weight_0_draws_all_classes_whatever_it_is_told(sampler: Sampler) -> None:
    latents, labels = normal(3000, 2), torch.zeros(3000, dtype=torch.int64)

    drawn = sample(
        classifier_free(CLASSES, 0.0), latents, sampler, conditions=Conditions(labels), noise=noise_like(latents)
    )

    shares = torch.cdist(drawn, CENTRES).argmin(dim=1).bincount(minlength=3) / 3000
    assert torch.allclose(shares, torch.full((3,), 1 / 3), atol=4 * math.sqrt(2 / 9 / 3000))


@each_sampler
def test_a_greater_weight_goes_further_from_the_other_classes(sampler: Sampler) -> None:
    latents, conditions = normal(500, 2), Conditions(labels=torch.zeros(500, dtype=torch.int64))

    def mean(weight: float) -> Tensor:
        guided = classifier_free(CLASSES, weight)
        return sample(guided, latents, sampler, conditions=conditions, noise=noise_like(latents)).mean(dim=0)

    others = CENTRES[1:].mean(dim=0)
    distances = [float((mean(weight) - others).norm()) for weight in (1.0, 2.0, 4.0)]
    assert distances[0] + 0.01 < distances[1] < distances[2] - 0.01


def test_guidance_acts_in_its_interval_alone_and_costs_nothing_outside() -> None:
    latents, conditions = normal(50, 2), Conditions(labels=torch.zeros(50, dtype=torch.int64))
    passes: list[float] = []

    def counted(x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        passes.append(len(x) / len(latents))
        return CLASSES(x, sigma, conditions)

    def drawn(**fields: Any) -> Tensor:
        sampler = Sampler(steps=10, **fields)
        passes.clear()
        images = sample(counted, latents, sampler, conditions=conditions)
        assert sum(passes) == evaluations(sampler)
        return images

    plain, guided = drawn(), drawn(guidance=3.0)
    everywhere, nowhere = (drawn(guidance=3.0, guidance_interval=each) for each in ((0.0, 80.0), (80.0, 90.0)))
    middle = drawn(guidance=3.0, guidance_interval=(0.1, 2.0))

    assert torch.equal(everywhere, guided)
    assert torch.equal(nowhere, plain)
    assert not torch.allclose(middle, plain, atol=1e-2)
    assert not torch.allclose(middle, guided, atol=1e-2)
    assert {*passes} == {1.0, 2.0}


def test_a_denoiser_guided_by_itself_is_itself() -> None:
    x, sigma, conditions = noisy_points()

    for weight in (0.0, 1.0, 2.5):
        assert torch.equal(autoguided(CLASSES, CLASSES, weight)(x, sigma, conditions), CLASSES(x, sigma, conditions))


def test_autoguidance_undoes_what_a_guide_does_wrong_twice() -> None:
    """D + e and a guide with D + 2 e: at weight 2 the error is gone."""
    x, sigma, conditions = noisy_points()
    exact, wrong, worse = RingDenoiser(), RingDenoiser(inflation=0.1), RingDenoiser(inflation=0.2)

    assert torch.allclose(autoguided(wrong, worse, 2.0)(x, sigma, conditions), exact(x, sigma), atol=1e-5)
    assert torch.equal(autoguided(wrong, worse, 1.0)(x, sigma, conditions), wrong(x, sigma))
    assert torch.equal(autoguided(wrong, worse, 0.0)(x, sigma, conditions), worse(x, sigma))


@each_sampler
def test_inpainting_ends_exactly_on_the_known_pixels(sampler: Sampler) -> None:
    latents, known = normal(5, 3, 4, 4), normal(5, 3, 4, 4, seed=1)
    mask = torch.arange(4) < 2

    drawn = sample(inpainting(GaussianDenoiser(0.5), known, mask), latents, sampler, noise=noise_like(latents))

    assert torch.equal(drawn[..., :2], known[..., :2])
    assert not torch.equal(drawn[..., 2:], known[..., 2:])


@pytest.mark.parametrize("correlation", [-0.9, 0.5, 0.8])
def test_inpainting_moves_the_unknown_towards_its_conditional_mean_and_not_all_the_way(correlation: float) -> None:
    """Two correlated pixels, the first known to be 1; given that, the second has the mean `correlation`.

    The replacement predicts from a noisy first pixel, so it falls short of that. The mean m of the second follows
    dm/du = (m - D) / u in u = sigma^2 along the ancestral sampler, which ends on (1 - sqrt(1 - c^2)) / c.
    """
    denoise = CorrelatedDenoiser(torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64))
    painted = inpainting(denoise, torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([True, False]))
    nothing = torch.zeros(1, 2, dtype=torch.float64)

    def mean(method: str) -> float:
        """All is linear in latents and noise, so the mean end is the one without any."""
        sampler = Sampler.model_validate({"method": method, "steps": 400})
        return float(sample(painted, nothing, sampler, noise=lambda _: nothing)[0, 1])

    limit = (1 - math.sqrt(1 - correlation**2)) / correlation
    assert mean("ancestral") == pytest.approx(limit, rel=0.03)
    assert 0 < abs(mean("heun")) < abs(mean("ancestral")) < abs(correlation)
    assert mean("heun") * correlation > 0
