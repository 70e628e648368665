"""From the bytes of an image file, whatever its format, to uint8 pixels of one shape."""

import os
from io import BytesIO
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as Tag

from workers.contract.data import MAX_RESOLUTION, MIN_RESOLUTION
from workers.data.errors import ImageError

DECODERS = min(4, os.cpu_count() or 1)  # Pillow lets go of the interpreter while it decodes and resizes

# Pillow's other decoders are left out: one of them starts a program (Ghostscript), and nobody trains on icons of 1987.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_UPRIGHT: dict[object, Image.Transpose] = {  # by the orientation that a camera has noted
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
RESIZE = "set dataset.resolution to centre-crop and resize all images alike"
_EIGHT_BITS = "save them with 8 or 16 bits per channel"


def decode(data: bytes) -> Image.Image:
    """The image in a file, turned upright; of several frames the first.

    Raises:
        ImageError: if the file is broken, is no image, or would unpack to more pixels than Pillow thinks sane.
    """
    try:
        image = Image.open(BytesIO(data), formats=_FORMATS)
        if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError  # Pillow itself only warns up to twice that size
        image.load()
        return _upright(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels", mend="make the images smaller") from None
    except UnidentifiedImageError:
        raise ImageError(f"is not an image of a known format ({', '.join(_FORMATS)})" if data else "is empty") from None
    except Exception as error:  # on broken files decoders raise anything, up to SyntaxError
        raise ImageError(f"cannot be decoded: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    """Only the orientation counts: other tags may be damaged, and Pillow's own function writes all of them again."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(Tag.Orientation))
    except Exception:  # noqa: BLE001 - there is nothing that damaged tags may not raise
        return image
    return image if turn is None else image.transpose(turn)


def to_pixels(
    image: Image.Image, *, channels: Literal[1, 3], resolution: int | None
) -> UInt8[np.ndarray, "channels side side"]:
    """Square pixels of an image; with no resolution given it must be square already.

    Raises:
        ImageError: if the image has no sensible conversion.
    """
    image = _fitted(_flattened(image).convert("L" if channels == 1 else "RGB"), resolution)
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _flattened(image: Image.Image) -> Image.Image:
    """Eight bits per channel, and white where it was transparent."""
    match image.mode:
        case "I;16" | "I;16L" | "I;16B" | "I;16N" | "I":
            wide = np.asarray(image).astype(np.int64)
            if wide.min() < 0 or wide.max() > 65535:
                raise ImageError("has 32-bit pixels", mend=_EIGHT_BITS)
            return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
        case "F" | "LAB":
            raise ImageError(f"has pixels of the unusual kind {image.mode}", mend=_EIGHT_BITS)
        case _ if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, image.convert("RGBA"))
        case _:
            return image


def _fitted(image: Image.Image, resolution: int | None) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    if resolution is None:
        if width != height:
            raise ImageError(f"is {width} x {height} pixels, not square", mend=RESIZE)
        if not MIN_RESOLUTION <= side <= MAX_RESOLUTION:
            limits = f"{MIN_RESOLUTION} to {MAX_RESOLUTION}"
            raise ImageError(f"is {side} x {side} pixels, which is not within {limits}", mend=RESIZE)
        return image
    left, top = (width - side) // 2, (height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return image if side == resolution else image.resize((resolution, resolution), Image.Resampling.LANCZOS)
