"""A trained model in three lines, without a service and without a store.

model = open_model("exported/weights.safetensors")
pixels = model.draw(range(16))            # uint8 [16, channels, height, width], a function of these seeds
Image.fromarray(pixels[0].permute(1, 2, 0).squeeze(-1).numpy()).save("first.png")
"""

from pathlib import Path

import torch

from workers.contract.model import Sampler
from workers.sampling.drawing import SeededSampler
from workers.sampling.network import denoiser_of, own_sampler
from workers.training.weights import read_weights


def open_model(
    location: str | Path,
    *,
    device: torch.device | str = "cpu",
    sampler: Sampler | None = None,
    classes: tuple[int, ...] | None = None,
) -> SeededSampler:
    """What `cdm export`, `cdm average` or `cdm convert` has written, ready to draw; `.denoiser` is D(x, sigma) itself.

    `sampler`: None is the training's own, where the file says it. `classes`: the image of a seed has the class at
    `seed modulo their number`; None: all of the network's.

    Raises:
        SpecError: there is no such file, or it is not whole.
    """
    header, tensors = read_weights(location)
    denoiser = denoiser_of(header, tensors)
    known = classes or tuple(range(header.num_classes)) or None
    shape = (header.image_channels, header.resolution, header.resolution)
    chosen = sampler or own_sampler(header)
    return SeededSampler(denoiser.to(device).eval().requires_grad_(False), chosen, shape, known, torch.device(device))
