"""Drawn images as files: PNG, and grids of many."""

import io

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

_TILE_PIXELS = 48
_GAP = 2


def to_uint8(x: Float[Tensor, "batch channels height width"]) -> UInt8[Tensor, "batch channels height width"]:
    """Images scaled to [-1, 1] as pixels, rounded as EDM does it."""
    return (x * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def from_uint8(pixels: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
    """Pixels scaled to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def grid_png(pixels: UInt8[Tensor, "batch channels height width"], columns: int) -> bytes:
    """Images row by row on white, small ones enlarged without smoothing; the last row may be short."""
    scale = max(1, _TILE_PIXELS // pixels.shape[-1])
    large = pixels.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    padded = torch.nn.functional.pad(large, (0, _GAP, 0, _GAP), value=255)
    count, channels, height, width = padded.shape
    rows = -(-count // columns)
    missing = padded.new_full((rows * columns - count, channels, height, width), 255)
    grid = torch.cat([padded, missing]).view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    return png(grid.reshape(rows * height, columns * width, channels))


def png(pixels: UInt8[Tensor, "height width channels"]) -> bytes:
    """One image."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(2).numpy() if pixels.shape[2] == 1 else pixels.numpy()).save(buffer, "PNG")
    return buffer.getvalue()
