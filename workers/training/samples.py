"""The picture that goes with a checkpoint: a grid of images drawn from the same latents every time."""

import io
import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from workers.contract.data import DatasetManifest
from workers.contract.spec import TrainSpec
from workers.diffusion.conditions import NOTHING, Conditions
from workers.diffusion.denoiser import Denoiser
from workers.diffusion.guidance import classifier_free
from workers.diffusion.samplers import sample
from workers.diffusion.transfer import sent
from workers.training.world import World

_DOMAIN = 0x5A3B1E  # keeps these draws apart from other uses of the same seed
_COLUMNS = 8
_MAX_ROWS = 10
_TILE_PIXELS = 48
_GAP = 2


def draw_grid(denoiser: Denoiser, spec: TrainSpec, images: DatasetManifest, world: World) -> bytes:
    """Draw a grid as PNG: a row per class (the first ten), or eight rows without classes.

    The work is shared over all processes; each image is a function of the seed and its own place in the grid.
    """
    conditional = spec.network.class_conditional
    rows = min(images.num_classes, _MAX_ROWS) if conditional else _COLUMNS
    total = rows * _COLUMNS
    per_process = math.ceil(total / world.size)
    mine = [(world.rank + k * world.size) % total for k in range(per_process)]  # beyond the end: drawn twice, dropped
    size = spec.batch_images // spec.shares(world.size)  # what training has room for, sampling has
    chunks = [mine[first : first + size] for first in range(0, per_process, size)]
    with torch.compiler.set_stance("force_eager"):  # a few evaluations are not worth one more shape to compile for
        parts = [_drawn(denoiser, spec, images, chunk, world) for chunk in chunks]
    drawn = world.collected(torch.cat(parts))[:total]
    return _png(_tiled(_to_uint8(drawn).cpu(), rows))


def _drawn(
    denoiser: Denoiser, spec: TrainSpec, images: DatasetManifest, places: list[int], world: World
) -> Float[Tensor, "batch channels height width"]:
    """The images at these places of the grid, drawn as one batch."""
    shape = (images.channels, images.resolution, images.resolution)

    def normal(number: int) -> Tensor:
        return sent(torch.stack([_normal(spec.seed, place, number, shape) for place in places]), world.device)

    conditions = NOTHING
    if spec.network.class_conditional:
        conditions = Conditions(labels=torch.tensor([place // _COLUMNS for place in places], device=world.device))
    denoise = classifier_free(denoiser, spec.sampler.guidance)
    return sample(denoise, normal(0), spec.sampler, conditions=conditions, noise=lambda step: normal(step + 1))


def _normal(seed: int, place: int, number: int, shape: tuple[int, ...]) -> Float[Tensor, "channels height width"]:
    """An image's latents, number 0, and the noise of its sampling steps, from number 1 on.

    Drawn on the CPU, so that every kind of device starts from the same noise.
    """
    mixed = np.random.SeedSequence([seed, place, _DOMAIN, number]).generate_state(1, np.uint64)[0] >> np.uint64(1)
    return torch.randn(shape, generator=torch.Generator().manual_seed(int(mixed)))


def _to_uint8(x: Float[Tensor, "batch channels height width"]) -> UInt8[Tensor, "batch channels height width"]:
    return (x * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def _tiled(pixels: UInt8[Tensor, "batch channels height width"], rows: int) -> UInt8[Tensor, "height width channels"]:
    """Arrange images row by row on white, small ones enlarged without smoothing."""
    scale = max(1, _TILE_PIXELS // pixels.shape[-1])
    large = pixels.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    padded = torch.nn.functional.pad(large, (0, _GAP, 0, _GAP), value=255)
    _, channels, height, width = padded.shape
    grid = padded.view(rows, _COLUMNS, channels, height, width).permute(0, 3, 1, 4, 2)
    return grid.reshape(rows * height, _COLUMNS * width, channels)


def _png(pixels: UInt8[Tensor, "height width channels"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(2).numpy() if pixels.shape[2] == 1 else pixels.numpy()).save(buffer, "PNG")
    return buffer.getvalue()
