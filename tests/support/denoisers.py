"""Small trained-looking denoisers for tests."""

import torch

from workers.contract.model import EDM
from workers.contract.networks import DDPMpp
from workers.diffusion.denoiser import Denoiser
from workers.networks import build

SHAPE = (1, 8, 8)
NUM_CLASSES = 3


def small_denoiser(seed: int = 0, *, dropout: float = 0.0, augmentation_features: int = 0) -> Denoiser:
    """A U-Net for images of `SHAPE`, its weights moved away from the nearly zero ones that would hide differences."""
    torch.manual_seed(seed)
    config = DDPMpp(
        kind="ddpmpp",
        channels=8,
        channel_multipliers=(1, 2),
        blocks_per_level=1,
        attention_resolutions=(4,),
        dropout=dropout,
        class_conditional=True,
    )
    network = build(
        config,
        image_channels=SHAPE[0],
        resolution=SHAPE[1],
        num_classes=NUM_CLASSES,
        augmentation_features=augmentation_features,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Denoiser(network, preconditioning=EDM(kind="edm"), sigma_data=0.5)
