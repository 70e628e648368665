"""What all kinds of image collections are turned into: a list of images that are decoded one by one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from workers.data.labels import Labels


@dataclass(frozen=True, slots=True)
class Source:
    """Images in a fixed order, sorted by name. `image(i)` decodes one, raises ImageError, and may run in any thread."""

    place: str
    names: tuple[str, ...]
    labels: Labels | None
    channels: Literal[1, 3]
    resolution: int | None
    num_ignored: int
    image: Callable[[int], Image.Image]


def of_arrays(
    pixels: UInt8[np.ndarray, "count height width *channels"],
    labels: Labels | None,
    *,
    place: str,
    channels: Literal[1, 3],
    resolution: int | None,
) -> Source:
    """Images that are in memory already, in their order."""

    def image(index: int) -> Image.Image:
        one = pixels[index]
        return Image.fromarray(one[:, :, 0] if one.ndim == 3 and one.shape[2] == 1 else one)

    return Source(place, numbered(len(pixels)), labels, channels, resolution, num_ignored=0, image=image)


def numbered(count: int) -> tuple[str, ...]:
    """Names for images that have none, in their order."""
    width = max(6, len(str(count)))
    return tuple(f"{number:0{width}d}" for number in range(count))
