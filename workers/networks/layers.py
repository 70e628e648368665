"""Layers that several networks have: normalisation, resampling, attention, and features of noise level and class."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from workers.networks.plan import Resampling

# Buffers are computed here whatever the default device: arithmetic on `meta`, where drivers build networks to see that
# they fit, makes PyTorch import its compiler, for two seconds.
_HOST = torch.device("cpu")


def group_norm(channels: int, epsilon: float) -> nn.GroupNorm:
    """At most 32 groups, of at least 4 channels each; fewer where the channels would not divide."""
    return GroupNorm(math.gcd(channels, min(32, channels // 4)), channels, eps=epsilon)


class GroupNorm(nn.GroupNorm):
    """In the precision of what it gets; its kernels add up in float32, though some round mean and spread after that.

    Autocast would have it in float32, and with it what is kept for the backward pass and all until the next product.
    """

    def forward(self, x: Float[Tensor, "batch channels *size"]) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return functional.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def resampling(how: Resampling, channels: int, *, smooth: bool) -> nn.Module:
    """Halve or double the resolution, with a 2x2 box or (`smooth`) with the filter [1, 3, 3, 1]."""
    if how == "none":
        return nn.Identity()
    if smooth:
        return SmoothDown(channels) if how == "down" else SmoothUp(channels)
    return nn.AvgPool2d(2) if how == "down" else nn.Upsample(scale_factor=2)


def smoothing_kernel(channels: int) -> Float[Tensor, "channels 1 4 4"]:
    """[1, 3, 3, 1] in both directions, of sum 1."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return line.outer(line).repeat(channels, 1, 1, 1)


class SmoothDown(nn.Module):
    """Halve the resolution with [1, 3, 3, 1]; beyond the border there is 0."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", smoothing_kernel(channels), persistent=False)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Tensor:
        return functional.conv2d(x, self.kernel, stride=2, padding=1, groups=len(self.kernel))


class SmoothUp(nn.Module):
    """Double the resolution with [1, 3, 3, 1]; beyond the border there is 0."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Between the zeros that doubling puts in, each output meets a quarter of the kernel.
        self.register_buffer("kernel", 4 * smoothing_kernel(channels), persistent=False)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Tensor:
        return functional.conv_transpose2d(x, self.kernel, stride=2, padding=1, groups=len(self.kernel))


def num_heads(channels: int, channels_per_head: int) -> int:
    """As many heads of about `channels_per_head` as divide the channels, at least one."""
    wanted = max(1, channels // channels_per_head)
    return next(heads for heads in range(wanted, 0, -1) if channels % heads == 0)


def as_pixels(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch pixels channels"]:
    """A view; contiguous where the image is channels_last."""
    return x.flatten(2).transpose(1, 2)


def as_image(pixels: Float[Tensor, "batch pixels channels"], like: Tensor) -> Tensor:
    """The inverse of `as_pixels`, for images of the shape of `like`."""
    return pixels.transpose(1, 2).view(like.shape)


def heads_of(qkv: Float[Tensor, "batch pixels rows"], heads: int) -> Float[Tensor, "3 batch heads pixels channels"]:
    """Split queries, keys and values, whose rows are ordered [3, heads, channels]."""
    return qkv.view(*qkv.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)


def attention(qkv: Float[Tensor, "3 batch heads pixels channels"]) -> Float[Tensor, "batch pixels all_channels"]:
    """softmax(q k^T / sqrt(channels)) v, the heads one after the other."""
    query, key, value = qkv.unbind(0)
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class NoiseFeatures(nn.Module):
    """cos and sin of `factor` * frequency * c_noise."""

    freqs: Tensor

    def __init__(
        self, frequencies: Float[Tensor, " half"], *, sine_first: bool, factor: float = 1.0, drawn: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("freqs", frequencies, persistent=drawn)  # what was drawn cannot be computed again
        self.sine_first = sine_first
        self.factor = factor

    def forward(self, c_noise: Float[Tensor, " batch"]) -> Float[Tensor, "batch features"]:
        angles = c_noise.outer(self.factor * self.freqs)
        parts = (angles.sin(), angles.cos()) if self.sine_first else (angles.cos(), angles.sin())
        return torch.cat(parts, dim=1)


def falling_frequencies(count: int, *, endpoint: bool) -> Float[Tensor, " count"]:
    """From 1 down to 1/10000, geometrically; without `endpoint` the last one is left out."""
    return 10_000 ** (-torch.arange(count, device=_HOST) / max(1, count - endpoint))


class OneHot(nn.Module):
    """Labels as rows of a unit matrix; rows of zeros for images without a class."""

    classes: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("classes", torch.arange(num_classes, device=_HOST), persistent=False)

    def forward(
        self, labels: Int[Tensor, " batch"] | None, like: Float[Tensor, "batch *_"]
    ) -> Float[Tensor, "batch classes"]:
        if labels is None:
            return like.new_zeros(len(like), len(self.classes))
        return (labels[:, None] == self.classes).to(like.dtype)
