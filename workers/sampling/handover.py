"""A trained model in three lines, without a service and without a store.

model = open_model("exported/weights.safetensors")
pixels = model.draw(range(16))            # uint8 [16, channels, height, width], a function of these seeds
Image.fromarray(pixels[0].permute(1, 2, 0).squeeze(-1).numpy()).save("first.png")
"""

from pathlib import Path

import torch

from workers.contract.model import Sampler
from workers.diffusion.denoiser import Denoiser
from workers.networks import build
from workers.sampling.drawing import Brush
from workers.training.weights import read_weights

__all__ = ["SAMPLER", "open_model"]

SAMPLER = "sampler"  # of the training, in the header of an exported file


def open_model(
    location: str | Path,
    *,
    device: torch.device | str = "cpu",
    sampler: Sampler | None = None,
    classes: tuple[int, ...] | None = None,
) -> Brush:
    """What `cdm export`, `cdm average` or `cdm convert` has written, ready to draw; `.denoiser` is D(x, sigma) itself.

    `sampler`: None is the training's own, where the file says it. `classes`: the image of a seed has the class at
    `seed modulo their number`; None: all of the network's.

    Raises:
        WeightsError: there is no such file, or it is not whole.
    """
    header, tensors = read_weights(location)
    network = build(
        header.network,
        image_channels=header.image_channels,
        resolution=header.resolution,
        num_classes=header.num_classes,
        augmentation_features=header.augmentation_features,
    )
    network.load_state_dict(tensors)
    denoiser = Denoiser(network, preconditioning=header.preconditioning, sigma_data=header.sigma_data)
    own = header.extra.get(SAMPLER)
    chosen = sampler or (Sampler.model_validate_json(own) if own else Sampler())
    known = classes or tuple(range(header.num_classes)) or None
    shape = (header.image_channels, header.resolution, header.resolution)
    return Brush(denoiser.to(device).eval().requires_grad_(False), chosen, shape, known, torch.device(device))
