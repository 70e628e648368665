"""Random geometry of training images, told to the network so that what it draws has none of it (EDM, appendix F.2).

The randomness is drawn on the CPU, where it is known without waiting which images are warped; the others, about 60 % at
a probability of 0.12, are flipped at most and keep their pixels.
"""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from workers.diffusion.transfer import to_device
from workers.diffusion.warping import warp

_LOG2_SCALE = 0.2  # standard deviation of log2 of a scale
_SHIFT = 0.125  # standard deviation of a shift, of the image's side


@dataclass(frozen=True, slots=True)
class AugmentationDraws:
    """What happens to each image, in this order. On the CPU; zero is nothing."""

    x_flip: Float[Tensor, " batch"]  # 0 or 1: left and right change places
    y_flip: Float[Tensor, " batch"]  # 0 or 1
    scale: Float[Tensor, " batch"]  # log2 of the magnification, in units of 0.2
    angle: Float[Tensor, " batch"]  # radians, counter-clockwise as one looks at the image
    stretch: Float[Tensor, " batch"]  # log2 of the magnification along an axis, and of the reduction across it
    stretch_axis: Float[Tensor, " batch"]  # radians, counter-clockwise from the x axis
    shift: Float[Tensor, "batch 2"]  # x, y, in units of an eighth of the side

    def part(self, images: slice) -> "AugmentationDraws":
        """Those of some of the images."""
        return AugmentationDraws(*(getattr(self, field.name)[images] for field in fields(self)))

    def labels(self) -> Float[Tensor, "batch 9"]:
        """What the network is told; all zero without augmentation."""
        turn = [self.angle.cos() - 1, self.angle.sin()]
        stretch = [self.stretch * self.stretch_axis.cos(), self.stretch * self.stretch_axis.sin()]
        return torch.stack([self.x_flip, self.y_flip, self.scale, *turn, *stretch, *self.shift.unbind(1)], dim=1)

    def warped(self) -> Int[Tensor, " warped"]:
        """The places in the batch of those that more than flips happen to."""
        values = torch.stack([self.scale, self.angle, self.stretch, *self.shift.unbind(1)])
        return values.any(dim=0).nonzero()[:, 0]

    def sources(self, size: int) -> Float[Tensor, "batch 2 3"]:
        """The affine map [A | b] from the place of a pixel to that in the flipped image which it shows; see `warp`."""
        turned_back = _rotation(self.angle) * torch.exp2(-_LOG2_SCALE * self.scale)[:, None, None]
        along = torch.exp2(-_LOG2_SCALE * self.stretch)
        unstretched = _rotation(-self.stretch_axis) @ torch.diag_embed(torch.stack([along, 1 / along], dim=1))
        linear = turned_back @ unstretched @ _rotation(self.stretch_axis)
        return torch.cat([linear, linear @ (-_SHIFT * size * self.shift[:, :, None])], dim=2)


def draw_augmentation(generator: Generator, *, num_images: int, probability: float) -> AugmentationDraws:
    """Draw for a whole batch, with a generator of the CPU. Each transform but the x flip has this `probability`.

    The stretch has a random axis in half of all images, and is along x in the others.
    """

    def uniform() -> Tensor:
        return torch.rand(num_images, generator=generator)

    def normal() -> Tensor:
        return torch.randn(num_images, generator=generator)

    def flip() -> Tensor:
        return (uniform() < 0.5).float()

    def angle() -> Tensor:
        return math.pi * (2 * uniform() - 1)

    def applied() -> Tensor:
        return (uniform() < probability).float()

    return AugmentationDraws(
        x_flip=flip(),
        y_flip=flip() * applied(),
        scale=normal() * applied(),
        angle=angle() * applied(),
        stretch=normal() * applied(),
        stretch_axis=angle() * flip(),
        shift=torch.stack([normal(), normal()], dim=1) * applied()[:, None],
    )


def augment(
    images: Float[Tensor, "batch channels size size"], draws: AugmentationDraws
) -> Float[Tensor, "batch channels size size"]:
    """Images as the draws say, on their device, which the host does not wait for.

    An image does not depend on the others. Flips alone are exact; warped values may go a little beyond [-1, 1].
    """
    size, device = images.shape[-1], images.device
    for values, dim in ((draws.x_flip, 3), (draws.y_flip, 2)):
        flipped = to_device(values.bool(), device)[:, None, None, None]
        images = torch.where(flipped, images.flip(dim), images)
    which = draws.warped()
    if len(which) == 0:
        return images
    places = to_device(which, device)
    return images.index_copy(0, places, warp(images[places], to_device(draws.sources(size)[which], device)))


def _rotation(angle: Float[Tensor, " batch"]) -> Float[Tensor, "batch 2 2"]:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
