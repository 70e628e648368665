"""ADM (Dhariwal & Nichol 2021, arXiv 2105.05233), as EDM configures it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from workers.contract.networks import ADM
from workers.diffusion.conditions import Conditions
from workers.diffusion.denoiser import Network
from workers.networks.blocks import Block, BlockStyle, decoded
from workers.networks.layers import NoiseFeatures, OneHot, falling_frequencies, group_norm
from workers.networks.plan import plan_unet

_STYLE = BlockStyle(
    norm_epsilon=1e-5,
    scales_by_embedding=True,
    keeps_variance=False,
    projects_resampled=False,
    smooth_resampling=False,
    channels_per_head=64,
)
_ZERO_AT_FIRST = ("conv1", "proj", "out_conv", "map_augment")


class ADMUNet(Network):
    """The parameters are named as in the published snapshots of EDM (without `model.`), so that these can be loaded."""

    def __init__(
        self, config: ADM, *, image_channels: int, resolution: int, num_classes: int, augmentation_features: int
    ) -> None:
        super().__init__()
        self.plan = plan_unet(config, resolution, decoder_attention="every block")
        self.dropout_elements = self.plan.largest_output if config.dropout else 0
        features, width = config.channels, config.channels * 4
        self.map_noise = NoiseFeatures(falling_frequencies(features // 2, endpoint=False), sine_first=False)
        self.map_augment = nn.Linear(augmentation_features, features, bias=False) if augmentation_features else None
        self.map_layer0 = nn.Linear(features, width)
        self.map_layer1 = nn.Linear(width, width)
        self.one_hot = OneHot(num_classes)
        self.map_label = nn.Linear(num_classes, width, bias=False) if num_classes else None

        self.enc = nn.ModuleDict({self.plan.first: nn.Conv2d(image_channels, self.plan.width, 3, padding=1)})
        self.enc.update({block.name: Block(block, width, _STYLE) for block in self.plan.encoder})
        self.dec = nn.ModuleDict({block.name: Block(block, width, _STYLE) for block in self.plan.decoder})
        last = self.plan.decoder[-1].outputs
        self.out_norm = group_norm(last, _STYLE.norm_epsilon)
        self.out_conv = nn.Conv2d(last, image_channels, 3, padding=1)
        _initialise(self)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], c_noise: Float[Tensor, " batch"], conditions: Conditions
    ) -> Float[Tensor, "batch channels height width"]:
        with torch.autocast(x.device.type, enabled=False):
            embedding = self._embedding(c_noise, conditions)
        x = self.enc[self.plan.first](x)
        skips = [x]
        for block in self.plan.encoder:
            x = self.enc[block.name](x, embedding, conditions.dropout)
            skips.append(x)
        x = decoded(self.dec, self.plan.decoder, skips, embedding, conditions.dropout)
        out: Tensor = self.out_conv(functional.silu(self.out_norm(x)))
        return out

    def _embedding(self, c_noise: Float[Tensor, " batch"], conditions: Conditions) -> Float[Tensor, "batch width"]:
        features = self.map_noise(c_noise)
        if self.map_augment is not None and conditions.augmentation is not None:
            features = features + self.map_augment(conditions.augmentation)
        embedding = self.map_layer1(functional.silu(self.map_layer0(features)))
        if self.map_label is not None:
            embedding = embedding + self.map_label(self.one_hot(conditions.labels, like=c_noise))
        return functional.silu(embedding)


def _initialise(network: ADMUNet) -> None:
    """Uniform within 1/sqrt(fan in), which PyTorch's layers start with; what ends a residual path starts at zero."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and name.rpartition(".")[2] in _ZERO_AT_FIRST:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
    if network.map_label is not None:
        nn.init.normal_(network.map_label.weight)
