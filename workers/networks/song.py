"""DDPM++ and NCSN++ (Song et al. 2021, arXiv 2011.13456), as EDM configures them."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from workers.contract.networks import DDPMpp, NCSNpp
from workers.diffusion.conditions import Conditions
from workers.diffusion.denoiser import Network
from workers.networks.blocks import Block, BlockStyle, decoded
from workers.networks.layers import NoiseFeatures, OneHot, falling_frequencies, group_norm, smoothing_kernel
from workers.networks.plan import BlockPlan, plan_unet

_NORM_EPSILON = 1e-6
_FOURIER_STD = 16.0
_NEARLY_ZERO = 1e-5  # what a block adds at first


class SongUNet(Network):
    """The parameters are named as in the published snapshots of EDM (without `model.`), so that these can be loaded."""

    def __init__(
        self,
        config: DDPMpp | NCSNpp,
        *,
        image_channels: int,
        resolution: int,
        num_classes: int,
        augmentation_features: int,
    ) -> None:
        super().__init__()
        self.has_pyramid = smooth = isinstance(config, NCSNpp)
        self.plan = plan_unet(config, resolution, decoder_attention="last block")
        self.dropout_elements = self.plan.largest_output if config.dropout else 0
        features, width = config.channels * (2 if smooth else 1), config.channels * 4
        self.map_noise = _fourier(features) if smooth else _positional(features)
        self.one_hot = OneHot(num_classes)
        self.map_label = nn.Linear(num_classes, features) if num_classes else None
        self.map_augment = nn.Linear(augmentation_features, features, bias=False) if augmentation_features else None
        self.map_layer0 = nn.Linear(features, width)
        self.map_layer1 = nn.Linear(width, width)

        style = BlockStyle(
            norm_epsilon=_NORM_EPSILON,
            scales_by_embedding=False,
            keeps_variance=True,
            projects_resampled=True,
            smooth_resampling=smooth,
            channels_per_head=None,
        )
        self.enc = nn.ModuleDict({self.plan.first: nn.Conv2d(image_channels, self.plan.width, 3, padding=1)})
        pyramid_channels = image_channels
        for block in self.plan.encoder:
            self.enc[block.name] = Block(block, width, style)
            if smooth and block.resample == "down":
                self.enc[_pyramid_name(block)] = PyramidConvolution(pyramid_channels, block.outputs)
                pyramid_channels = block.outputs
        self.dec = nn.ModuleDict({block.name: Block(block, width, style) for block in self.plan.decoder})
        self.out_name = f"{resolution}x{resolution}_aux"
        last = self.plan.decoder[-1].outputs
        self.dec[f"{self.out_name}_norm"] = group_norm(last, _NORM_EPSILON)
        self.dec[f"{self.out_name}_conv"] = nn.Conv2d(last, image_channels, 3, padding=1)
        _initialise(self)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], c_noise: Float[Tensor, " batch"], conditions: Conditions
    ) -> Float[Tensor, "batch channels height width"]:
        with torch.autocast(x.device.type, enabled=False):
            embedding = self._embedding(c_noise, conditions)
        pyramid = x
        x = self.enc[self.plan.first](x)
        skips = [x]
        for block in self.plan.encoder:
            x = self.enc[block.name](x, embedding, conditions.dropout)
            if self.has_pyramid and block.resample == "down":
                x = pyramid = (x + self.enc[_pyramid_name(block)](pyramid)) * math.sqrt(0.5)
            skips.append(x)
        x = decoded(self.dec, self.plan.decoder, skips, embedding, conditions.dropout)
        x = functional.silu(self.dec[f"{self.out_name}_norm"](x))
        out: Tensor = self.dec[f"{self.out_name}_conv"](x)
        return out

    def _embedding(self, c_noise: Float[Tensor, " batch"], conditions: Conditions) -> Float[Tensor, "batch width"]:
        features = self.map_noise(c_noise)
        if self.map_label is not None:
            one_hot = self.one_hot(conditions.labels, like=c_noise)
            features = features + self.map_label(one_hot * math.sqrt(one_hot.shape[1]))
        if self.map_augment is not None and conditions.augmentation is not None:
            features = features + self.map_augment(conditions.augmentation)
        return functional.silu(self.map_layer1(functional.silu(self.map_layer0(features))))


class PyramidConvolution(nn.Conv2d):
    """A 3x3 convolution, then [1, 3, 3, 1] to half the resolution: a level of NCSN++'s pyramid of the input.

    Between the two nothing is cut off at the border, as if they were one convolution.
    """

    kernel: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=2)
        self.register_buffer("kernel", smoothing_kernel(outputs), persistent=False)

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Tensor:
        h = functional.conv2d(x, self.weight, padding=self.padding)
        return functional.conv2d(h, self.kernel, self.bias, stride=2, groups=self.out_channels)


def _pyramid_name(block: BlockPlan) -> str:
    return f"{block.resolution}x{block.resolution}_aux_residual"


def _positional(features: int) -> NoiseFeatures:
    return NoiseFeatures(falling_frequencies(features // 2, endpoint=True), sine_first=True)


def _fourier(features: int) -> NoiseFeatures:
    frequencies = torch.randn(features // 2) * _FOURIER_STD
    return NoiseFeatures(frequencies, sine_first=True, factor=2 * math.pi, drawn=True)


def _initialise(network: nn.Module) -> None:
    """Xavier's uniform weights and zero biases; blocks start as nearly the identity, attention nearly even."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            last_part = name.rpartition(".")[2]
            nearly_zero = last_part in ("conv1", "proj") or last_part.endswith("aux_conv")
            gain = _NEARLY_ZERO if nearly_zero else math.sqrt(0.2) if last_part == "qkv" else 1.0
            nn.init.xavier_uniform_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
