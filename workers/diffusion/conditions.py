"""What a network is told beside the noisy image and its noise level, the same in every evaluation of that image."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NO_CLASS = -1
_POSITIVE = 2**62 - 1
_SMALLEST_SPREAD = 2**16  # bits: tiny images, too, get masks that have little in common
_FIRST_REDRAWN, _MOST_COPIES = 2**32, 2**16  # beyond the number of any layer


@dataclass(frozen=True, slots=True)
class DropoutNoise:
    """Dropout masks as a function of the image and the layer, so that several evaluations of an image can share them.

    All masks of a step are cut from one pool of random bits, each image and layer at an offset of its own: the bits of
    one mask are independent, and any number of workers sees the same ones.
    """

    kept: Bool[Tensor, " pool"]
    keys: Int[Tensor, " batch"]
    probability: float

    def applied(self, x: Float[Tensor, "batch channels *size"], layer: int) -> Float[Tensor, "batch channels *size"]:
        """Drop elements of `x` and scale up the rest; `layer` numbers the dropout layers of a network."""
        channels, *size = x.shape[1:]
        length = x[0].numel()
        offsets = _mixed(self.keys, layer) % (len(self.kept) - length)
        masks = self.kept.unfold(0, length, 1)[offsets]
        channels_last = masks.view(-1, *size, channels).movedim(-1, 1)  # whatever the layout of x, the same elements
        return x * channels_last / (1 - self.probability)

    def part(self, images: slice) -> "DropoutNoise":
        return replace(self, keys=self.keys[images])

    def repeated(self, times: int) -> "DropoutNoise":
        return replace(self, keys=self.keys.repeat(times))

    def redrawn(self, times: int, evaluation: int) -> "DropoutNoise":
        """Other masks for each of so many copies of the images, and others again in another evaluation (from 0)."""
        numbers = [_FIRST_REDRAWN + evaluation * _MOST_COPIES + copy for copy in range(times)]
        return replace(self, keys=torch.cat([_mixed(self.keys, number) for number in numbers]))


def draw_dropout(
    generator: torch.Generator, *, num_images: int, probability: float, largest_layer: int
) -> DropoutNoise | None:
    """Draw the masks of one step; `largest_layer` is the most elements that an image has at a dropout layer."""
    if not probability:
        return None
    device = generator.device
    kept = (
        torch.rand(largest_layer + max(largest_layer, _SMALLEST_SPREAD), generator=generator, device=device)
        >= probability
    )
    keys = torch.randint(_POSITIVE, (num_images,), generator=generator, device=device)
    return DropoutNoise(kept, keys, probability)


def _mixed(keys: Int[Tensor, " batch"], layer: int) -> Int[Tensor, " batch"]:
    """A well-spread number >= 0 for each key and layer; integer products wrap around."""
    mixed = (keys ^ (layer * 0x9E3779B97F4A7C15 & _POSITIVE)) * (0xBF58476D1CE4E5B9 & _POSITIVE)
    return (mixed ^ (mixed >> 29)) & _POSITIVE


@dataclass(frozen=True, slots=True)
class Conditions:
    """None where there is nothing to tell: no classes, no augmentation, no dropout."""

    labels: Int[Tensor, " batch"] | None = None  # NO_CLASS: an image without one
    augmentation: Float[Tensor, "batch features"] | None = None
    dropout: DropoutNoise | None = None

    def part(self, images: slice) -> "Conditions":
        """Those of some of the images."""
        return Conditions(
            None if self.labels is None else self.labels[images],
            None if self.augmentation is None else self.augmentation[images],
            None if self.dropout is None else self.dropout.part(images),
        )

    def repeated(self, times: int) -> "Conditions":
        """Those of a batch that holds all images `times` times, one copy of the batch after the other."""
        return Conditions(
            None if self.labels is None else self.labels.repeat(times),
            None if self.augmentation is None else self.augmentation.repeat(times, 1),
            None if self.dropout is None else self.dropout.repeated(times),
        )

    def redrawn(self, times: int, evaluation: int) -> "Conditions":
        """As `repeated`, with dropout masks that no other copy and no other evaluation has."""
        return replace(self.repeated(times), dropout=self.dropout and self.dropout.redrawn(times, evaluation))

    def without_dropout(self) -> "Conditions":
        return replace(self, dropout=None)


UNCONDITIONAL = Conditions()  # of no class; nothing is dropped out
