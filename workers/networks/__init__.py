"""Networks F(x, c_noise, conditions) for the denoiser, built from their configurations."""

from typing import assert_never

from workers.contract.networks import ADM, EDM2, MLP, DDPMpp, NCSNpp
from workers.diffusion.denoiser import Network
from workers.networks.adm import ADMUNet
from workers.networks.edm2 import MagnitudePreservingUNet
from workers.networks.mlp import FullyConnected
from workers.networks.song import SongUNet

__all__ = ["FullyConnected", "Network", "after_step", "build"]


def build(
    config: DDPMpp | NCSNpp | ADM | EDM2 | MLP,
    *,
    image_channels: int,
    resolution: int,
    num_classes: int,
    augmentation_features: int = 0,
) -> Network:
    """Build a network for images [image_channels, resolution, resolution], told of `augmentation_features` numbers.

    Raises:
        ValueError: the image set does not fit the network, with the field to change.
    """
    if config.class_conditional and not num_classes:
        raise ValueError("network.class_conditional: this image set has no classes; set it to false")
    if augmentation_features and not config.takes_augmentation:
        raise ValueError(f"augmentation: the network {config.kind} takes no augmentation labels; set it to null")
    classes = num_classes if config.class_conditional else 0
    if isinstance(config, MLP):
        return FullyConnected(config, image_channels * resolution**2, classes)
    _check_levels(len(config.channel_multipliers), resolution)
    images = {"image_channels": image_channels, "resolution": resolution, "num_classes": classes}
    match config:
        case DDPMpp() | NCSNpp():
            return SongUNet(config, augmentation_features=augmentation_features, **images)
        case ADM():
            return ADMUNet(config, augmentation_features=augmentation_features, **images)
        case EDM2():
            return MagnitudePreservingUNet(config, **images)
        case _:
            assert_never(config)


def after_step(network: Network) -> None:
    """Let a network put its weights in order; after every step of the optimizer."""
    if isinstance(network, MagnitudePreservingUNet):
        network.normalize_weights()


def _check_levels(levels: int, resolution: int) -> None:
    if resolution % 2 ** (levels - 1):
        raise ValueError(
            f"network.channel_multipliers: {levels} levels need a resolution divisible by {2 ** (levels - 1)}, "
            f"the images have {resolution}; use fewer levels or set dataset.resolution"
        )
