"""The Inception-v3 of 2015 whose features define FID (Szegedy et al. 2016, arXiv 1512.00567; Heusel et al. 2017).

The names of its tensors are those of `pt_inception-2015-12-05-6726825d.pth`, the port of TensorFlow's graph that
pytorch-fid and torch-fidelity (both Apache-2.0) publish. It differs from other Inceptions in its pooling: averages
leave the padding out, and the last block takes a maximum.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from workers.evaluation.inception_blocks import Convolution, Layer, Mixed

DIMENSIONS = 2048
_RESOLUTION = 299

_FIVES = {  # at 35x35
    "branch1x1": Layer(64),
    "branch5x5_1": Layer(48),
    "branch5x5_2": Layer(64, (5, 5), after="branch5x5_1"),
    "branch3x3dbl_1": Layer(64),
    "branch3x3dbl_2": Layer(96, (3, 3), after="branch3x3dbl_1"),
    "branch3x3dbl_3": Layer(96, (3, 3), after="branch3x3dbl_2"),
}
_TO_17 = {
    "branch3x3": Layer(384, (3, 3), stride=2),
    "branch3x3dbl_1": Layer(64),
    "branch3x3dbl_2": Layer(96, (3, 3), after="branch3x3dbl_1"),
    "branch3x3dbl_3": Layer(96, (3, 3), stride=2, after="branch3x3dbl_2"),
}
_TO_8 = {
    "branch3x3_1": Layer(192),
    "branch3x3_2": Layer(320, (3, 3), stride=2, after="branch3x3_1"),
    "branch7x7x3_1": Layer(192),
    "branch7x7x3_2": Layer(192, (1, 7), after="branch7x7x3_1"),
    "branch7x7x3_3": Layer(192, (7, 1), after="branch7x7x3_2"),
    "branch7x7x3_4": Layer(192, (3, 3), stride=2, after="branch7x7x3_3"),
}
_FORKS = {  # at 8x8
    "branch1x1": Layer(320),
    "branch3x3_1": Layer(384),
    "branch3x3_2a": Layer(384, (1, 3), after="branch3x3_1"),
    "branch3x3_2b": Layer(384, (3, 1), after="branch3x3_1"),
    "branch3x3dbl_1": Layer(448),
    "branch3x3dbl_2": Layer(384, (3, 3), after="branch3x3dbl_1"),
    "branch3x3dbl_3a": Layer(384, (1, 3), after="branch3x3dbl_2"),
    "branch3x3dbl_3b": Layer(384, (3, 1), after="branch3x3dbl_2"),
}


def _sevens(width: int) -> dict[str, Layer]:
    """At 17x17: filters of 7x7 as rows and columns, once and twice."""
    return {
        "branch1x1": Layer(192),
        "branch7x7_1": Layer(width),
        "branch7x7_2": Layer(width, (1, 7), after="branch7x7_1"),
        "branch7x7_3": Layer(192, (7, 1), after="branch7x7_2"),
        "branch7x7dbl_1": Layer(width),
        "branch7x7dbl_2": Layer(width, (7, 1), after="branch7x7dbl_1"),
        "branch7x7dbl_3": Layer(width, (1, 7), after="branch7x7dbl_2"),
        "branch7x7dbl_4": Layer(width, (7, 1), after="branch7x7dbl_3"),
        "branch7x7dbl_5": Layer(192, (1, 7), after="branch7x7dbl_4"),
    }


class InceptionFeatures(nn.Module):
    """Pixels in [0, 255], RGB, of any size, to the 2048 features called pool3."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, (3, 3), padded=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = Convolution(64, 80)
        self.Conv2d_4a_3x3 = Convolution(80, 192, (3, 3), padded=False)
        self.Mixed_5b = Mixed(192, _FIVES, "average", 32)
        self.Mixed_5c = Mixed(256, _FIVES, "average", 64)
        self.Mixed_5d = Mixed(288, _FIVES, "average", 64)
        self.Mixed_6a = Mixed(288, _TO_17, "halving")
        self.Mixed_6b = Mixed(768, _sevens(128), "average", 192)
        self.Mixed_6c = Mixed(768, _sevens(160), "average", 192)
        self.Mixed_6d = Mixed(768, _sevens(160), "average", 192)
        self.Mixed_6e = Mixed(768, _sevens(192), "average", 192)
        self.Mixed_7a = Mixed(768, _TO_8, "halving")
        self.Mixed_7b = Mixed(1280, _FORKS, "average", 192)
        self.Mixed_7c = Mixed(2048, _FORKS, "maximum", 192)

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 2048"]:
        x = (_stretched(_stretched(pixels, dim=2), dim=3) - 128) / 128
        for name, layer in self.named_children():
            x = layer(x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = functional.max_pool2d(x, 3, stride=2)
        return x.mean(dim=(2, 3))


def _stretched(x: Float[Tensor, "batch 3 height width"], dim: int) -> Tensor:
    """Make one axis 299 long as TensorFlow 1 did: pixel k of n is read at k n / 299, not at its middle."""
    count = x.shape[dim]
    at = torch.arange(_RESOLUTION, dtype=x.dtype, device=x.device) * (count / _RESOLUTION)
    low = at.long().clamp(max=count - 1)
    high = (low + 1).clamp(max=count - 1)
    weight = (at - low).view([-1 if axis == dim else 1 for axis in range(x.ndim)])
    return torch.lerp(x.index_select(dim, low), x.index_select(dim, high), weight)
