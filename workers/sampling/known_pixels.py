"""Pixels that somebody knows already."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workers.contract.document import SpecError, in_field
from workers.contract.sampling import Inpainting
from workers.data.errors import ImageError
from workers.data.pixels import decode, to_pixels
from workers.pictures import from_uint8
from workers.storage import JobFiles, read_location

_WHITE = 128
_MOST_BYTES = 64 << 20  # several times the largest image that a network draws, unpacked


@dataclass(frozen=True, slots=True, eq=False)
class KnownPixels:
    """An image scaled to [-1, 1], and which of its pixels count."""

    image: Float[Tensor, "channels height width"]
    mask: Bool[Tensor, "1 height width"]


def read_known_pixels(
    inpainting: Inpainting, shape: tuple[int, int, int], device: torch.device, job_files: JobFiles
) -> KnownPixels:
    """Read both files.

    Raises:
        SpecError: naming the field: it cannot be read, or is of another size than the images drawn.
    """
    channels, _, resolution = shape
    with in_field("inpainting.image"):
        image = _pixels(inpainting.image, channels, resolution, job_files)
    with in_field("inpainting.mask"):
        mask = _pixels(inpainting.mask, 1, resolution, job_files) >= _WHITE
    return KnownPixels(from_uint8(image).to(device), mask.to(device))


def _pixels(location: str, channels: int, wanted: int, job_files: JobFiles) -> Tensor:
    try:
        data = read_location(location, most_bytes=_MOST_BYTES, job_files=job_files)
        pixels = to_pixels(decode(data), channels=3 if channels == 3 else 1, resolution=None)
    except ImageError as error:
        raise SpecError(f"{location} {error}") from None
    except (OSError, ValueError) as error:
        raise SpecError(str(error)) from None
    if (size := pixels.shape[-1]) != wanted:
        raise SpecError(f"{location} is {size} x {size} pixels, the images are {wanted} x {wanted}")
    return torch.tensor(pixels)
