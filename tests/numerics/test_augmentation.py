"""The geometry of training images: what happens how often, what it does to pixels, and what the network is told."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from workers.diffusion.augmentation import AugmentationDraws, augment, draw_augmentation
from workers.diffusion.warping import SYM6, warp

INTERIOR = (..., slice(6, -6), slice(6, -6))


def nothing(num_images: int = 1) -> AugmentationDraws:
    zeros = torch.zeros(num_images)
    return AugmentationDraws(zeros, zeros, zeros, zeros, zeros, zeros, torch.zeros(num_images, 2))


def one(value: float) -> Tensor:
    return torch.tensor([value])


def drawn(num_images: int, probability: float = 0.12) -> AugmentationDraws:
    return draw_augmentation(torch.Generator().manual_seed(0), num_images=num_images, probability=probability)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def smooth(size: int = 32) -> Tensor:
    """Two colours of broad waves, alike in no two directions."""
    y, x = torch.meshgrid(torch.arange(size) - (size - 1) / 2, torch.arange(size) - (size - 1) / 2, indexing="ij")
    return torch.stack([(x / 5 + y / 9 + 0.3).sin(), (x / 8 - 1).cos() * (y / 6).sin() + 0.2])[None]


def test_the_filter_is_orthonormal_to_its_even_shifts_and_has_six_vanishing_moments() -> None:
    taps = torch.tensor(SYM6, dtype=torch.float64)
    places = torch.arange(12, dtype=torch.float64)
    alternating = taps * (-1) ** places

    assert float(taps.sum()) == pytest.approx(math.sqrt(2), abs=1e-15)
    for shift in range(6):
        product = float((taps[2 * shift :] * taps[: 12 - 2 * shift]).sum())
        assert product == pytest.approx(float(shift == 0), abs=1e-15)
    for moment in range(6):
        assert float((alternating * ((places - 5.5) / 5.5) ** moment).sum()) == pytest.approx(0, abs=1e-15)


def test_labels_are_told_in_edms_order() -> None:
    draws = AugmentationDraws(
        x_flip=one(1.0),
        y_flip=one(1.0),
        scale=one(0.5),
        angle=one(math.pi / 6),
        stretch=one(-2.0),
        stretch_axis=one(math.pi / 3),
        shift=torch.tensor([[0.7, -0.4]]),
    )

    expected = [1, 1, 0.5, math.sqrt(3) / 2 - 1, 0.5, -1, -math.sqrt(3), 0.7, -0.4]
    assert draws.labels()[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert not nothing().labels().any()


def test_each_transform_happens_as_often_as_it_should() -> None:
    labels = drawn(100_000).labels()

    happens = (labels != 0).float().mean(dim=0)
    assert happens.tolist() == pytest.approx([0.5, 0.06, 0.12, 0.12, 0.12, 0.12, 0.06, 0.12, 0.12], abs=0.005)
    assert float((labels != 0).any(dim=1).float().mean()) == pytest.approx(0.72, abs=0.005)
    assert len(drawn(100_000).warped()) / 100_000 == pytest.approx(1 - 0.88**4, abs=0.005)


def test_amounts_follow_their_distributions() -> None:
    draws = drawn(100_000, probability=1.0)

    for values in (draws.scale, draws.stretch, draws.shift[:, 0], draws.shift[:, 1]):
        assert float(values.mean()) == pytest.approx(0, abs=0.02)
        assert float(values.std()) == pytest.approx(1, abs=0.02)
    turned = draws.stretch_axis[draws.stretch_axis != 0]
    assert len(turned) / 100_000 == pytest.approx(0.5, abs=0.01)
    for angles in (draws.angle, turned):
        assert float(angles.abs().max()) <= math.pi
        assert float(angles.std()) == pytest.approx(math.pi / math.sqrt(3), abs=0.02)
    assert float((draws.shift[:, 0] * draws.shift[:, 1]).mean()) == pytest.approx(0, abs=0.02)


def test_the_seed_decides_and_shares_of_workers_are_parts_of_the_whole() -> None:
    whole, images = drawn(12, probability=0.5), noise(12, 3, 16, 16)
    together = augment(images, whole)

    for rank in range(3):
        mine = slice(rank, None, 3)
        assert torch.equal(whole.part(mine).labels(), whole.labels()[mine])
        assert torch.allclose(augment(images[mine], whole.part(mine)), together[mine], atol=1e-5)
    assert all(torch.equal(getattr(whole, f.name), getattr(drawn(12, probability=0.5), f.name)) for f in fields(whole))


def test_images_without_a_transform_keep_their_pixels_beside_others_that_do_not() -> None:
    images, draws = noise(64, 3, 16, 16), drawn(64)
    untouched = ~draws.labels().any(dim=1)

    augmented = augment(images, draws)

    assert 5 < int(untouched.sum()) < 40
    assert torch.equal(augmented[untouched], images[untouched])
    changed = (augmented != images).flatten(1).any(dim=1)
    assert torch.equal(changed, ~untouched)


def test_flips_alone_are_exact() -> None:
    images = noise(4, 3, 8, 8)
    draws = replace(nothing(4), x_flip=torch.tensor([0.0, 1, 0, 1]), y_flip=torch.tensor([0.0, 0, 1, 1]))

    expected = [images[0], images[1].flip(2), images[2].flip(1), images[3].flip(1, 2)]
    assert torch.equal(augment(images, draws), torch.stack(expected))


def test_a_shift_by_whole_pixels_moves_them() -> None:
    """To the right and down; an eighth of the side in each unit."""
    images = noise(1, 3, 32, 32)

    shifted = augment(images, replace(nothing(), shift=torch.tensor([[0.5, -0.75]])))

    assert torch.allclose(shifted[INTERIOR], images.roll((2, -3), dims=(3, 2))[INTERIOR], atol=1e-5)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_go_counter_clockwise(quarters: int) -> None:
    turned = augment(smooth(), replace(nothing(), angle=one(quarters * math.pi / 2)))

    assert torch.allclose(turned[INTERIOR], smooth().rot90(quarters, dims=(2, 3))[INTERIOR], atol=3e-3)


def test_half_a_turn_is_both_flips() -> None:
    turned = augment(smooth(), replace(nothing(), angle=one(math.pi)))
    flipped = augment(smooth(), replace(nothing(), x_flip=one(1.0), y_flip=one(1.0)))

    assert torch.allclose(turned[INTERIOR], flipped[INTERIOR], atol=3e-3)


def test_every_transform_takes_a_slope_exactly_to_where_it_belongs() -> None:
    """A place p of the image goes to shift + M p, M = stretch turn scale flip: there p is shown, by two slopes."""
    draws = replace(drawn(50, probability=1.0), shift=0.1 * noise(50, 2))
    places = torch.arange(64) - 31.5
    slopes = torch.stack([places.expand(64, 64), places[:, None].expand(64, 64)])

    augmented = augment(slopes.expand(50, 2, 64, 64), draws)

    def rotation(angle: float) -> Tensor:
        return torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])

    for k, (x_flip, y_flip, scale, angle, stretch, axis) in enumerate(
        zip(*(getattr(draws, f.name).tolist() for f in fields(draws)[:-1]), strict=True)
    ):
        flip = torch.diag(torch.tensor([1 - 2 * x_flip, 1 - 2 * y_flip]))
        longer = torch.diag(torch.tensor([2 ** (0.2 * stretch), 2 ** (-0.2 * stretch)]))
        forward = rotation(axis) @ longer @ rotation(-axis) @ rotation(angle) * 2 ** (0.2 * scale) @ flip
        centre = torch.einsum("ij,jhw->ihw", forward, augmented[k]) + (8 * draws.shift[k]).view(2, 1, 1)
        assert torch.allclose(centre[:, 26:38, 26:38], slopes[:, 26:38, 26:38], atol=2e-3)


def test_what_is_undone_is_nearly_as_before() -> None:
    for change, inverse in (
        ({"scale": one(1.0)}, {"scale": one(-1.0)}),
        ({"angle": one(0.7)}, {"angle": one(-0.7)}),
        ({"stretch": one(1.0), "stretch_axis": one(0.4)}, {"stretch": one(-1.0), "stretch_axis": one(0.4)}),
        ({"shift": torch.tensor([[0.3, 0.2]])}, {"shift": torch.tensor([[-0.3, -0.2]])}),
    ):
        there = augment(smooth(64), replace(nothing(), **change))
        back = augment(there, replace(nothing(), **inverse))

        centre = (..., slice(20, 44), slice(20, 44))
        assert not torch.allclose(there[centre], smooth(64)[centre], atol=0.1)
        assert torch.allclose(back[centre], smooth(64)[centre], atol=0.01)


@pytest.mark.parametrize(("channels", "size"), [(1, 4), (3, 7), (3, 32)])
def test_a_constant_image_stays_constant_and_a_far_shift_shows_reflections(channels: int, size: int) -> None:
    draws = drawn(32, probability=1.0)
    far = replace(draws, shift=100 * draws.shift)

    constant = augment(torch.full((32, channels, size, size), 0.7), far)

    assert torch.allclose(constant, torch.full_like(constant, 0.7), atol=1e-5)
    assert float(augment(noise(32, channels, size, size), far).abs().max()) < 8


def test_a_shift_by_two_sides_comes_back_to_the_image() -> None:
    """The reflections of an image of n pixels repeat after 2 (n - 1)."""
    images = noise(1, 3, 17, 17)

    shifted = augment(images, replace(nothing(), shift=torch.tensor([[8 * 32 / 17, 0.0]])))

    assert torch.allclose(shifted[INTERIOR], images[INTERIOR], atol=1e-4)


def test_warps_keep_the_energy_of_smooth_images() -> None:
    draws = replace(nothing(100), angle=math.pi * (2 * torch.rand(100, generator=torch.Generator().manual_seed(0)) - 1))

    turned = augment(smooth(64).expand(100, 2, 64, 64), draws)

    energy = turned.square().mean(dim=(1, 2, 3))
    assert torch.allclose(energy, smooth(64).square().mean().expand(100), rtol=0.15)


def test_the_identity_is_kept_by_the_filters_up_and_down() -> None:
    """White noise holds every frequency; only the outermost pixels see how reflections are put together."""
    images, identity = noise(2, 3, 32, 32), torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(2, 2, 3)

    assert torch.allclose(warp(images, identity)[INTERIOR], images[INTERIOR], atol=1e-5)


def test_an_image_does_not_depend_on_its_batch() -> None:
    images, draws = noise(16, 3, 16, 16), drawn(16, probability=0.6)
    together = augment(images, draws)

    for k in range(16):
        alone = augment(images[k, None], draws.part(slice(k, k + 1)))
        assert torch.allclose(alone[0], together[k], atol=1e-5)
