"""What training changes, and nothing else."""

from copy import deepcopy
from dataclasses import dataclass

import torch

from workers.contract.data import DatasetManifest
from workers.contract.spec import TrainSpec
from workers.diffusion.denoiser import Denoiser
from workers.networks import build

_PRECISION = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(slots=True)
class TrainState:
    """The denoiser, its moving average, the optimizer, and how far they have come."""

    denoiser: Denoiser
    ema: Denoiser
    optimizer: torch.optim.Adam
    images_seen: int = 0


def new_denoiser(spec: TrainSpec, images: DatasetManifest) -> Denoiser:
    """Build the denoiser with its initial weights, a function of the seed alone.

    Raises:
        ValueError: the network does not fit the images, with the field to change.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        network = build(
            spec.network, image_channels=images.channels, resolution=images.resolution, num_classes=images.num_classes
        )
    return Denoiser(
        network,
        sigma_data=spec.noise.sigma_data or images.sigma_data,
        precision=_PRECISION[spec.compute.precision],
    )


def new_state(spec: TrainSpec, images: DatasetManifest, device: torch.device) -> TrainState:
    """The state before the first image."""
    denoiser = new_denoiser(spec, images).to(device)
    adam = spec.optimizer
    optimizer = torch.optim.Adam(
        denoiser.parameters(), adam.learning_rate, betas=(adam.beta1, adam.beta2), eps=adam.epsilon, fused=True
    )
    return TrainState(denoiser, deepcopy(denoiser).eval().requires_grad_(False), optimizer)
