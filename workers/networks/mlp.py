"""Fully connected layers over all elements of an image, or over the coordinates of a point."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from workers.contract.networks import MLP
from workers.diffusion.conditions import Conditions
from workers.diffusion.denoiser import Network
from workers.networks.layers import NoiseFeatures, OneHot, falling_frequencies

_NUM_FREQUENCIES = 8
_LOG_SIGMA = 4.0  # c_noise of EDM is ln(sigma) / 4


class FullyConnected(Network):
    """`num_features` are the elements of one x, whatever its shape."""

    def __init__(self, config: MLP, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.one_hot = OneHot(num_classes)
        self.noise = NoiseFeatures(
            falling_frequencies(_NUM_FREQUENCIES, endpoint=True), sine_first=False, factor=_LOG_SIGMA
        )
        inputs = num_features + 2 * _NUM_FREQUENCIES + num_classes
        widths = [inputs, *[config.width] * config.hidden_layers]
        self.hidden = nn.ModuleList(_linear(a, b, gain=1.4) for a, b in pairwise(widths))
        self.out = _linear(config.width, num_features, gain=1e-5)

    def forward(
        self, x: Float[Tensor, "batch *shape"], c_noise: Float[Tensor, " batch"], conditions: Conditions
    ) -> Float[Tensor, "batch *shape"]:
        one_hot_labels = self.one_hot(conditions.labels, like=c_noise)
        h = torch.cat([x.flatten(1), self.noise(c_noise), one_hot_labels], dim=1)
        for layer in self.hidden:
            h = functional.silu(layer(h))
        out: Tensor = self.out(h)
        return out.view(x.shape)


def _linear(inputs: int, outputs: int, *, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(inputs))
    nn.init.zeros_(layer.bias)
    return layer
