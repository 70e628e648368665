"""Loss and consistency by noise level, against denoisers known in closed form."""

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.support.denoisers import NUM_CLASSES, SHAPE, small_denoiser
from tests.support.oracles import GaussianDenoiser, RingDenoiser
from workers.contract.evaluation import Level
from workers.contract.model import EDM
from workers.diffusion.conditions import UNCONDITIONAL, Conditions
from workers.diffusion.consistency import ancestral_step
from workers.diffusion.denoiser import Denoise, WeightedDenoise
from workers.diffusion.preconditioning import loss_weight
from workers.evaluation.drift import (
    LEVELS,
    Noises,
    Purpose,
    R,
    by_level,
    denoising_loss,
    drift_at_images,
    drift_on_own_paths,
    noises_of,
    over_levels,
)
from workers.evaluation.drift_plot import draw

RING, POINTS = RingDenoiser(), 40_000
MIXED = (0.2, 0.43, 0.92)  # where posteriors spread over several of the ring's Gaussians


def weight(sigma: Tensor) -> Tensor:
    return loss_weight(EDM(kind="edm"), 0.5, sigma)


@dataclass(frozen=True)
class Weighted:
    """A denoiser, weighted as one of EDM that trains."""

    denoise: Denoise

    def __call__(self, x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        return self.denoise(x, sigma, conditions)

    def weight(self, sigma: Tensor) -> Tensor:
        return weight(sigma)


def deaf(x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
    """The exact denoiser of the ring, told less noise than there is."""
    return RING(x, 0.6 * sigma)


def batch_noises(shape: tuple[int, ...]) -> Noises:
    """Of all images at once, which is faster where nothing is shared out."""

    def noises(purpose: Purpose, number: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(10_000 + 1000 * purpose + number))

    return noises


def ring_points(count: int) -> Tensor:
    return RING.sample(count, torch.Generator().manual_seed(1))


def gaps_at_points(denoise: Denoise, levels: Sequence[float], *, r: float = R) -> tuple[Level, ...]:
    points = ring_points(POINTS)
    drift = drift_at_images(Weighted(denoise), points, UNCONDITIONAL, levels, batch_noises((POINTS, 2)), r=r)
    return by_level(levels, drift.gap)


def gaps_on_own_paths(denoise: Denoise, levels: Sequence[float]) -> tuple[Level, ...]:
    drift = drift_on_own_paths(Weighted(denoise), UNCONDITIONAL, levels, batch_noises((POINTS, 2)), sigma_max=80.0)
    return by_level(levels, drift.gap)


def test_the_loss_of_the_exact_gaussian_denoiser_is_the_posterior_variance() -> None:
    scale, count = 0.3, 2000
    images = scale * torch.randn(count, 1, 4, 4)

    losses = denoising_loss(
        Weighted(GaussianDenoiser(scale)), images, UNCONDITIONAL, LEVELS, batch_noises((count, 1, 4, 4))
    )

    for level in by_level(LEVELS, losses):
        variance = scale**2 * level.sigma**2 / (scale**2 + level.sigma**2)
        expected = float(weight(torch.tensor(level.sigma))) * variance
        assert level.mean == pytest.approx(expected, abs=4.5 * level.standard_error)
        assert level.standard_error == pytest.approx(expected * math.sqrt(2 / 16 / count), rel=0.2)


@pytest.mark.parametrize("measured", [gaps_at_points, gaps_on_own_paths], ids=["at images", "on own paths"])
def test_the_exact_denoiser_has_next_to_no_gap(measured: Callable[..., tuple[Level, ...]]) -> None:
    for level in measured(RING, LEVELS):
        assert level.mean < 3e-5 + 4.5 * level.standard_error
        assert level.standard_error < 2e-5


def test_the_gap_of_the_exact_denoiser_is_the_known_bias_of_one_step() -> None:
    """As in test_consistency, there summed over both axes; it grows with r^4."""
    (short,), (long,) = (gaps_at_points(RING, (0.4,), r=r) for r in (0.125, 0.25))

    assert long.mean == pytest.approx(3.2e-3 / 2, rel=0.3)
    assert 8 < long.mean / short.mean < 32


def test_a_denoiser_told_too_little_noise_has_a_gap_where_posteriors_mix() -> None:
    for exact, wrong in zip(gaps_at_points(RING, MIXED), gaps_at_points(deaf, MIXED), strict=True):
        assert wrong.mean > 10 * exact.mean
        assert wrong.mean > 3e-4

    # Elsewhere it is the exact denoiser of Gaussians of another width, which is as consistent: no measure of quality.
    for level in gaps_at_points(deaf, (0.01, 8.9, 40.0)):
        assert abs(level.mean) < 1e-6


def test_an_inconsistent_denoiser_has_a_gap_at_every_level() -> None:
    inflated = RingDenoiser(inflation=1.0)

    for measured in (gaps_at_points(inflated, LEVELS), gaps_on_own_paths(inflated, LEVELS)):
        for level in measured:
            assert level.mean > 4e-5
            assert level.mean > 4.5 * level.standard_error


def test_a_denoiser_that_returns_what_it_is_given_has_no_gap_and_a_great_loss() -> None:
    """The gap is no measure of quality: any martingale passes."""

    def idle(x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        return x

    levels = (0.1, 1.0, 10.0)
    drift = drift_at_images(
        Weighted(idle), torch.zeros(100, 3, 8, 8), UNCONDITIONAL, levels, batch_noises((100, 3, 8, 8))
    )
    losses = denoising_loss(
        Weighted(idle), torch.zeros(100, 3, 8, 8), UNCONDITIONAL, levels, batch_noises((100, 3, 8, 8))
    )

    assert float(drift.gap.abs().max()) < 1e-8
    assert float(losses[-1].mean()) > 100


def test_the_gap_is_measured_without_bias() -> None:
    """Given x_t, its mean over many draws of the steps is the violation itself, as far as 400 000 draws tell that."""
    level, r, count, draws, many = 0.4, 0.2, 6, 20_000, 400_000
    points = ring_points(count)
    point_noise = torch.randn(count, 2)
    x, sigma = points + level * point_noise, torch.full((count,), level)
    denoised, generator = deaf(x, sigma), torch.Generator().manual_seed(7)
    repeated, sigmas = x.repeat(many, 1), sigma.repeat(many)
    ahead = ancestral_step(
        repeated,
        denoised.repeat(many, 1),
        sigmas,
        (1 - r) * sigmas,
        torch.randn(repeated.shape, generator=generator),
    )
    expected = deaf(ahead, (1 - r) * sigmas).view(many, count, 2).mean(0)
    violation = weight(sigma) * (expected - denoised).square().mean(1)
    fresh = batch_noises((draws * count, 2))

    def noises(purpose: Purpose, number: int) -> Tensor:
        return point_noise.repeat(draws, 1) if purpose == Purpose.POINT else fresh(purpose, number)

    gap = drift_at_images(Weighted(deaf), points.repeat(draws, 1), UNCONDITIONAL, (level,), noises, r=r).gap
    gap = gap.view(draws, count)

    error = (gap.mean(0) - violation).abs()
    assert bool((error < 4.5 * gap.std(0) / math.sqrt(draws) + 0.03 * violation).all())


def test_a_denoiser_that_is_right_on_data_and_wrong_beside_it_drifts_on_its_own_paths() -> None:
    """Above sigma = 1 it believes in data of four times the width, so its paths never come to where it is right."""
    exact, wide, shape, count = GaussianDenoiser(0.5), GaussianDenoiser(2.0), (256,), 500
    levels, noises = (0.1, 0.4, 0.9), batch_noises((count, *shape))

    def beside(x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        expected = 0.5**2 + sigma**2
        stray = (sigma > 1) | (x.square().mean(1) > 2 * expected)
        return torch.where(stray[:, None], 1.2 * wide(x, sigma), exact(x, sigma))

    at_images = drift_at_images(Weighted(beside), 0.5 * torch.randn(count, *shape), UNCONDITIONAL, levels, noises)
    on_own_paths = drift_on_own_paths(Weighted(beside), UNCONDITIONAL, levels, noises, sigma_max=80.0)

    for here, there in zip(by_level(levels, at_images.gap), by_level(levels, on_own_paths.gap), strict=True):
        assert abs(here.mean) < 1e-6
        assert there.mean > 1e-3
    assert bool((on_own_paths.energy.mean(1) > 5 * at_images.energy.mean(1)).all())


@pytest.mark.parametrize("scale", [0.5, 0.1])
def test_own_paths_of_the_exact_denoiser_have_the_energy_of_noisy_data(scale: float) -> None:
    count, shape = 500, (4096,)
    noises, exact = batch_noises((count, *shape)), GaussianDenoiser(scale)

    energies = drift_on_own_paths(Weighted(exact), UNCONDITIONAL, LEVELS, noises, sigma_max=80.0).energy.mean(1)

    for level, energy in zip(LEVELS, energies.tolist(), strict=True):
        assert energy == pytest.approx(scale**4 / (scale**2 + level**2), rel=0.01)


def test_own_paths_pass_through_their_levels_in_whatever_order_they_are_asked_for() -> None:
    seen: list[float] = []

    def denoise(x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        seen.append(float(sigma[0]))
        return GaussianDenoiser(0.5)(x, sigma)

    noises = batch_noises((4, 2))
    up = drift_on_own_paths(Weighted(denoise), UNCONDITIONAL, (0.1, 80.0, 1.0), noises, sigma_max=80.0)
    path = [sigma for sigma, after in zip(seen, [*seen[1:], 0.0], strict=True) if sigma != after]
    down = drift_on_own_paths(Weighted(denoise), UNCONDITIONAL, (80.0, 1.0, 0.1), noises, sigma_max=80.0)

    assert seen[0] == 80.0
    assert torch.equal(up.energy, down.energy[[2, 0, 1]])
    assert max(high / low for high, low in pairwise(path)) < 1 / 0.7 + 1e-3
    with pytest.raises(ValueError, match="no path"):
        drift_on_own_paths(Weighted(denoise), UNCONDITIONAL, (0.1, 81.0), noises, sigma_max=80.0)


def shared_out(measure: Callable[[slice], Tensor], count: int, *, size: int) -> Tensor:
    return torch.cat([measure(slice(first, first + size)) for first in range(0, count, size)], dim=1)


@pytest.mark.parametrize("kind", ["closed form", "network"])
def test_what_images_contribute_does_not_depend_on_how_they_are_shared_out(kind: str) -> None:
    """Bit for bit, where the denoiser itself is; a network's convolutions round batches of another size otherwise."""
    count, levels = 7, (0.05, 0.5, 5.0)
    denoise: WeightedDenoise = Weighted(GaussianDenoiser(0.5)) if kind == "closed form" else small_denoiser().eval()
    images = torch.randn(count, *SHAPE).clamp(-1, 1)
    told = Conditions(labels=torch.arange(count) % NUM_CLASSES)

    def all_measures(part: slice) -> Tensor:
        mine = images[part]
        noises = noises_of(3, range(count)[part], mine)
        at_images = drift_at_images(denoise, mine, told.part(part), levels, noises)
        on_own_paths = drift_on_own_paths(denoise, told.part(part), levels, noises, sigma_max=80.0)
        loss = denoising_loss(denoise, mine, told.part(part), levels, noises)
        return torch.cat([loss, *at_images, *on_own_paths])

    whole = all_measures(slice(None))

    assert whole.shape == (5 * len(levels), count)
    assert not whole.requires_grad
    for size in (1, 3):
        parts = shared_out(all_measures, count, size=size)
        if kind == "closed form":
            assert torch.equal(parts, whole)
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_every_evaluation_is_told_the_classes_of_its_images() -> None:
    seen: list[list[int]] = []

    def denoise(x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        assert conditions.labels is not None
        seen.append(conditions.labels.tolist())
        return x / (1 + sigma[:, None])

    told, points = Conditions(labels=torch.tensor([4, 5, 6])), torch.zeros(3, 2)
    denoising_loss(Weighted(denoise), points, told, (0.5,), batch_noises((3, 2)))
    drift_at_images(Weighted(denoise), points, told, (0.5,), batch_noises((3, 2)))
    drift_on_own_paths(Weighted(denoise), told, (0.5,), batch_noises((3, 2)), sigma_max=80.0)

    assert all(labels in ([4, 5, 6], [4, 5, 6] * 4) for labels in seen)


def test_noise_is_a_function_of_seed_place_purpose_and_number() -> None:
    like = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    base = noises_of(1, [8, 9], like)(Purpose.POINT, 2)

    assert base.shape == like.shape
    assert base.dtype == like.dtype
    assert torch.equal(noises_of(1, [9], like[:1])(Purpose.POINT, 2), base[1:])
    others = [
        noises_of(1, [8, 9], like)(Purpose.POINT, 3),
        noises_of(1, [8, 9], like)(Purpose.STEP, 2),
        noises_of(2, [8, 9], like)(Purpose.POINT, 2),
        base.flip(0),
    ]
    assert not any(torch.equal(other, base) for other in others)


def test_a_summary_survives_json_and_says_what_it_cannot_be_made_of() -> None:
    contributions = torch.tensor([[1.0, 2.0, 6.0], [1e8, 1.0, -1e8]])

    summary = by_level((0.1, 1.0), contributions)

    assert summary == by_level((0.1, 1.0), contributions.flip(1))
    assert (summary[0].mean, summary[0].count) == (3.0, 3)
    assert summary[0].standard_error == pytest.approx(math.sqrt(7 / 3))
    assert [Level.model_validate_json(json.dumps(level.model_dump())) for level in summary] == list(summary)
    with pytest.raises(ValueError, match="two images"):
        by_level((0.1,), torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"sigma = 0\.1"):
        by_level((0.1,), torch.tensor([[1.0, math.nan]]))


@pytest.mark.parametrize("images", [2, 5, 32, 70])
def test_over_all_levels_an_images_part_is_its_mean_and_shares_are_of_every_nth(images: int) -> None:
    contributions = torch.randn(3, images, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    found = over_levels(contributions)

    each = contributions.mean(0).numpy()
    assert found.value == pytest.approx(contributions.mean())
    assert found.standard_error == pytest.approx(each.std(ddof=1) / math.sqrt(images))
    assert found.shares == pytest.approx([each[first::32].mean() for first in range(min(32, images))])


def test_the_picture_shows_gaps_of_either_sign() -> None:
    def curve(*means: float) -> tuple[Level, ...]:
        return tuple(
            Level(sigma=0.1 * 10**place, mean=mean, standard_error=0.1 * abs(mean) + 1e-5, count=9)
            for place, mean in enumerate(means)
        )

    for gap in (curve(1e-3, -1e-6, 1e-9), curve(-1e-6, 0.0)):
        picture = Image.open(io.BytesIO(draw({"train": curve(0.9, 0.5), "held out": curve(1.0, 0.8)}, {"paths": gap})))
        assert picture.size == (1200, 500)
