"""The picture that goes with a checkpoint: a grid of images drawn from the same latents every time."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from workers.contract.data import DatasetManifest
from workers.contract.spec import TrainSpec
from workers.diffusion.conditions import UNCONDITIONAL, Conditions
from workers.diffusion.denoiser import Denoiser
from workers.diffusion.latents import normal_batch
from workers.diffusion.samplers import sample
from workers.pictures import grid_png, to_uint8
from workers.training.world import World

_DOMAIN = 0x5A3B1E  # keeps these draws apart from other uses of the same seed
_COLUMNS = 8
_MAX_ROWS = 10


def draw_grid(
    denoiser: Denoiser,
    spec: TrainSpec,
    images: DatasetManifest,
    world: World,
    *,
    on_pass: Callable[[], object] = lambda: None,
) -> bytes:
    """Draw a grid as PNG: a row per class (the first ten), or eight rows without classes.

    The work is shared over all processes; each image is a function of the seed and its own place in the grid.
    `on_pass` is called after each pass through the network: a grid may take longer than a step.
    """
    conditional = spec.network.class_conditional
    rows = min(images.num_classes, _MAX_ROWS) if conditional else _COLUMNS
    total = rows * _COLUMNS
    per_process = math.ceil(total / world.size)
    mine = [(world.rank + k * world.size) % total for k in range(per_process)]  # beyond the end: drawn twice, dropped
    size = spec.batch_images // spec.shares(world.size)  # what training has room for, sampling has
    chunks = [mine[first : first + size] for first in range(0, per_process, size)]
    with _each_pass(denoiser, on_pass), torch.compiler.set_stance("force_eager"):  # few passes: not worth compiling for
        parts = [_drawn(denoiser, spec, images, chunk, world) for chunk in chunks]
    drawn = world.all_gather(torch.cat(parts))[:total]
    return grid_png(to_uint8(drawn).cpu(), _COLUMNS)


@contextmanager
def _each_pass(denoiser: Denoiser, on_pass: Callable[[], object]) -> Iterator[None]:
    def passed(_module: object, _inputs: object, drawn: Tensor) -> None:
        if drawn.is_cuda:  # which is asked for all passes at once, and waited for at the end
            torch.cuda.synchronize(drawn.device)
        on_pass()

    hook = denoiser.register_forward_hook(passed)
    try:
        yield
    finally:
        hook.remove()


def _drawn(
    denoiser: Denoiser, spec: TrainSpec, images: DatasetManifest, places: list[int], world: World
) -> Float[Tensor, "batch channels height width"]:
    """The images at these places of the grid, drawn as one batch."""
    shape = (images.channels, images.resolution, images.resolution)

    def noise(number: int) -> Tensor:
        """An image's latents, number 0, and the noise of its sampling steps, from number 1 on."""
        return normal_batch([(spec.seed, place, _DOMAIN, number) for place in places], shape, world.device)

    conditions = UNCONDITIONAL
    if spec.network.class_conditional:
        conditions = Conditions(labels=torch.tensor([place // _COLUMNS for place in places], device=world.device))
    return sample(denoiser, noise(0), spec.sampler, conditions=conditions, noise=lambda step: noise(step + 1))
