"""What Inception-v3 is made of: convolutions, and blocks of several chains of them side by side."""

from typing import Literal, NamedTuple, assert_never

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Layer(NamedTuple):
    """A convolution of a block. One of stride 1 is padded to keep the size, one of stride 2 is not padded."""

    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    after: str | None = None  # the layer that it takes its input from; None: the input of the block


class Mixed(nn.Module):
    """Layers, and a pooled branch; those that no other takes are joined, in their order, the pooled one last."""

    def __init__(
        self,
        before: int,
        layers: dict[str, Layer],
        pooling: Literal["average", "maximum", "halving"],
        pooled_channels: int | None = None,
    ) -> None:
        super().__init__()
        self._layers, self._pooling = layers, pooling
        for name, layer in layers.items():
            inputs = layers[layer.after].channels if layer.after else before
            self.add_module(name, Convolution(inputs, layer.channels, layer.kernel, stride=layer.stride))
        self.branch_pool = Convolution(before, pooled_channels) if pooled_channels else nn.Identity()

    def forward(self, x: Float[Tensor, "batch before height width"]) -> Tensor:
        made: dict[str, Tensor] = {}
        for name, layer in self._layers.items():
            made[name] = self.get_submodule(name)(made[layer.after] if layer.after else x)
        taken = {layer.after for layer in self._layers.values()}
        ends = [y for name, y in made.items() if name not in taken]
        return torch.cat([*ends, self.branch_pool(self._pooled(x))], dim=1)

    def _pooled(self, x: Tensor) -> Tensor:
        match self._pooling:
            case "average":
                return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
            case "maximum":
                return functional.max_pool2d(x, 3, stride=1, padding=1)
            case "halving":
                return functional.max_pool2d(x, 3, stride=2)
            case _:
                assert_never(self._pooling)


class Convolution(nn.Module):
    """A convolution, its batch normalisation, and max(0, x)."""

    def __init__(
        self, before: int, channels: int, kernel: tuple[int, int] = (1, 1), *, stride: int = 1, padded: bool = True
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded and stride == 1 else 0
        self.conv = nn.Conv2d(before, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x: Float[Tensor, "batch before height width"]) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))
