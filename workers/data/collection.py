"""What all kinds of image collections are turned into: images by their number, decoded one by one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from workers.data.errors import DatasetError
from workers.data.labels import Labels, check_class_names
from workers.data.pixels import DECODERS

MAX_IMAGES = 250_000_000  # a dozen bytes of memory for each in a table or an array; some hundred where they have names


@dataclass(frozen=True, slots=True)
class ImageCollection:
    """Images in a fixed order, sorted by name. `image(i)` decodes one, raises ImageError, and may run in any thread.

    A small file can hold very many: `name(i)` makes a name for who asks for it. `num_readers` of them had best be
    decoded at a time.
    """

    place: str
    num_images: int
    name: Callable[[int], str]
    labels: Labels | None
    channels: Literal[1, 3]
    resolution: int | None
    num_ignored: int
    image: Callable[[int], Image.Image]
    num_readers: int = DECODERS

    def __post_init__(self) -> None:
        """Raises: DatasetError. The names of its classes are not to be taken."""
        if self.labels:
            check_class_names(self.labels.classes, self.place)


def of_arrays(
    pixels: UInt8[np.ndarray, "count height width *channels"],
    labels: Labels | None,
    *,
    place: str,
    channels: Literal[1, 3],
    resolution: int | None,
) -> ImageCollection:
    """Images that are in memory already, in their order.

    Raises:
        DatasetError: they are too many.
    """
    check_count(len(pixels), place)

    def image(index: int) -> Image.Image:
        one = pixels[index]
        return Image.fromarray(one[:, :, 0] if one.ndim == 3 and one.shape[2] == 1 else one)

    return ImageCollection(
        place, len(pixels), numbered(len(pixels)), labels, channels, resolution, num_ignored=0, image=image
    )


def numbered(count: int) -> Callable[[int], str]:
    """Names for images that have none: their numbers."""
    width = max(6, len(str(count)))
    return lambda number: f"{number:0{width}d}"


def check_count(num_images: int, place: str) -> None:
    """Of a format that can say so in a few bytes, before anything is made for each of them.

    Raises:
        DatasetError: they are too many.
    """
    if num_images > MAX_IMAGES:
        raise DatasetError(f"{place}: has {num_images:,} images; bring it as sets of at most {MAX_IMAGES:,}")
