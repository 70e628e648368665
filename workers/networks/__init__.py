"""Networks F(x, c_noise, labels) for the denoiser, built from their configurations."""

from torch import nn

from workers.contract.model import UNet as UNetConfig
from workers.networks.unet import UNet

__all__ = ["build"]


def build(config: UNetConfig, *, image_channels: int, resolution: int, num_classes: int) -> nn.Module:
    """Build a network for images [image_channels, resolution, resolution].

    Raises:
        ValueError: the image set does not fit the network, with the field to change.
    """
    if config.class_conditional and not num_classes:
        raise ValueError("network.class_conditional: this image set has no classes; set it to false")
    levels = len(config.channel_multipliers)
    if resolution % 2 ** (levels - 1):
        raise ValueError(
            f"network.channel_multipliers: {levels} levels need a resolution divisible by {2 ** (levels - 1)}, "
            f"the images have {resolution}; use fewer levels or set dataset.resolution"
        )
    return UNet(config, image_channels=image_channels, resolution=resolution, num_classes=num_classes)
