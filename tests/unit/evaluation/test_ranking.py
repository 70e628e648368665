"""The features that come with the package put worse images further away, in grey and in colour.

Of the hundred images that a test has time for, at 6 ms each; so distances are compared at equal numbers, and the
mildest degradation is one that stands out at that number.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from workers.contract.data import BuiltinDataset
from workers.contract.features import Lite0
from workers.data.formats import open_collection
from workers.evaluation.distances import frechet_distance, kernel_distance
from workers.evaluation.features import Extractor, open_features
from workers.evaluation.statistics import Statistics

CLASSES = 10
KEPT = (10, 6, 2)  # classes, in the test of dropped ones


@dataclass(frozen=True, eq=False)
class Ground:
    """Features of real images to measure from, others to make worse, and features of those and more by their class."""

    extractor: Extractor
    reference: Tensor
    others: Tensor
    by_class: list[Tensor]

    def distances(self, features: Tensor) -> tuple[float, float]:
        """Fréchet's and the kernel's, between sets that are equally large."""
        assert len(features) == len(self.reference)
        frechet = frechet_distance(Statistics.of(self.reference), Statistics.of(features))
        return frechet, kernel_distance(self.reference, features, subsets=20).value

    @cached_property
    def floor(self) -> tuple[float, float]:
        """Distances of real images from real images."""
        return self.distances(self.keeping(CLASSES))

    def keeping(self, classes: int) -> Tensor:
        """Features of as many images as ever, of the first few classes alone."""
        return torch.cat([features[: len(self.reference) // classes] for features in self.by_class[:classes]])


def ground(extractor: Extractor, images: Tensor, labels: Tensor, count: int) -> Ground:
    rest, rest_labels = images[count:], labels[count:]
    needed = [max(count // kept for kept in KEPT if number < kept) for number in range(CLASSES)]
    found = [rest[rest_labels == number][:most] for number, most in enumerate(needed)]
    assert [len(each) for each in found] == needed
    by_class = [extractor(each) for each in found]
    return Ground(
        extractor, extractor(images[:count]), torch.cat([each[: count // CLASSES] for each in found]), by_class
    )


@pytest.fixture(scope="module", params=["clothes", "coloured shapes"])
def real(request: pytest.FixtureRequest) -> Ground:
    extractor = open_features(Lite0(kind="lite0"))
    if request.param == "clothes":
        return ground(extractor, *clothes(3000), count=120)
    return ground(extractor, *coloured_shapes(1200), count=120)


def test_more_noise_is_further_away(real: Ground) -> None:
    assert_rising(real, [real.extractor(noisy(real.others, level)) for level in (5, 20)])


def test_more_blur_is_further_away(real: Ground) -> None:
    assert_rising(real, [real.extractor(blurred(real.others, pixels)) for pixels in (0.7, 1.2)])


def test_more_classes_left_out_are_further_away(real: Ground) -> None:
    assert_rising(real, [real.keeping(classes) for classes in KEPT[1:]])


def assert_rising(real: Ground, worse: list[Tensor]) -> None:
    """By both distances, each set is further away than the one before, and the first than real images are."""
    found = [real.floor, *(real.distances(features) for features in worse)]
    for name, values in zip(("Fréchet", "kernel"), zip(*found, strict=True), strict=True):
        assert all(after > before for before, after in pairwise(values)), f"{name}: {values}"


def coloured_shapes(count: int) -> tuple[Tensor, Tensor]:
    """A hue and an outline for each class, before a plain background, of any size and place: 24x24, RGB."""
    draws = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    y, x = np.mgrid[:24, :24]
    pictures = []
    for label in labels:
        (row, column), radius = draws.uniform(9, 15, 2), draws.uniform(4, 8)
        power = (1, 2, 8)[label % 3]  # a diamond, a disc, a square
        inside = np.abs((y - row) / radius) ** power + np.abs((x - column) / radius) ** power < 1
        hue = 2 * np.pi * (label / CLASSES + np.arange(3) / 3) + draws.normal(0, 0.1)
        colour, background = 128 + 110 * np.sin(hue), np.full(3, draws.uniform(150, 255))
        pictures.append(np.where(inside[None], colour[:, None, None], background[:, None, None]))
    return torch.tensor(np.stack(pictures)).round().clamp(0, 255).to(torch.uint8), torch.tensor(labels)


def clothes(count: int) -> tuple[Tensor, Tensor]:
    """The first images of the set that comes with the package, in another order: 16x16, grey."""
    with open_collection(BuiltinDataset(kind="builtin", name="fashion16"), on_bytes=lambda *_: None) as collection:
        assert collection.labels is not None
        pixels = np.stack([np.asarray(collection.image(number)) for number in range(count)])
        labels = torch.tensor(collection.labels.values[:count])
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(pixels)[:, None][order], labels[order]


def noisy(images: Tensor, level: float) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + level * noise).round().clamp(0, 255).to(torch.uint8)


def blurred(images: Tensor, pixels: float) -> Tensor:
    line = torch.exp(-(torch.arange(-5, 6) ** 2) / (2 * pixels**2))
    kernel = (line.outer(line) / line.sum() ** 2).expand(images.shape[1], 1, 11, 11)
    padded = functional.pad(images.float(), (5, 5, 5, 5), mode="reflect")
    return functional.conv2d(padded, kernel, groups=images.shape[1]).round().to(torch.uint8)
