"""A residual U-Net after DDPM++ (Song et al. 2021, arXiv 2011.13456), small enough to learn 16x16 images on a CPU."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from workers.contract.model import UNet as UNetConfig


class UNet(nn.Module):
    """F(x, c_noise, labels): encoder, decoder with one more block per level, and skip connections between them."""

    def __init__(self, config: UNetConfig, *, image_channels: int, resolution: int, num_classes: int) -> None:
        super().__init__()
        base = config.channels
        widths = [base * multiplier for multiplier in config.channel_multipliers]
        embedding = 4 * base
        self.embed = Embedding(base, embedding, num_classes=num_classes if config.class_conditional else 0)

        def block(inputs: int, outputs: int, level: int, *, resample: str = "none") -> Block:
            attention = resolution >> level in config.attention_resolutions and resample == "none"
            return Block(inputs, outputs, embedding, attention=attention, resample=resample)

        self.first = convolution(image_channels, base)
        self.encoder = nn.ModuleList()
        skips = [base]
        for level, (before, width) in enumerate(pairwise([base, *widths])):
            if level:
                self.encoder.append(block(before, before, level, resample="down"))
                skips.append(before)
            for index in range(config.blocks_per_level):
                self.encoder.append(block(width if index else before, width, level))
                skips.append(width)
        self.middle = nn.ModuleList(block(widths[-1], widths[-1], len(widths) - 1) for _ in range(2))
        self.decoder = nn.ModuleList()
        current = widths[-1]
        for level in reversed(range(len(widths))):
            if level < len(widths) - 1:
                self.decoder.append(block(current, current, level, resample="up"))
            for _ in range(config.blocks_per_level + 1):
                self.decoder.append(block(current + skips.pop(), widths[level], level))
                current = widths[level]
        self.last = nn.Sequential(group_norm(current), nn.SiLU(), convolution(current, image_channels, gain=1e-5))

    def forward(
        self,
        x: Float[Tensor, "batch channels size size"],
        c_noise: Float[Tensor, " batch"],
        labels: Int[Tensor, " batch"] | None,
    ) -> Float[Tensor, "batch channels size size"]:
        embedding = self.embed(c_noise, labels)
        x = self.first(x)
        skips = [x]
        for block in self.encoder:
            x = block(x, embedding)
            skips.append(x)
        for block in self.middle:
            x = block(x, embedding)
        for block in self.decoder:
            if block.resample == "none":
                x = torch.cat([x, skips.pop()], dim=1)
            x = block(x, embedding)
        out: Tensor = self.last(x)
        return out


class Embedding(nn.Module):
    """Noise level (sines and cosines of c_noise) and class, added, through two layers."""

    def __init__(self, channels: int, width: int, *, num_classes: int) -> None:
        super().__init__()
        self.num_frequencies = channels // 2
        self.label = nn.Linear(num_classes, channels) if num_classes else None
        self.layers = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.num_classes = num_classes

    def forward(
        self, c_noise: Float[Tensor, " batch"], labels: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch width"]:
        frequencies = 10_000 ** -torch.linspace(0, 1, self.num_frequencies, device=c_noise.device)
        angles = c_noise[:, None] * frequencies
        embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
        if self.label is not None and labels is not None:
            one_hot = functional.one_hot(labels, self.num_classes).to(embedding.dtype)
            embedding = embedding + self.label(one_hot * math.sqrt(self.num_classes))
        out: Tensor = self.layers(embedding)
        return out


class Block(nn.Module):
    """Two convolutions around the embedding, optional resampling before and self-attention after, on a residual path.

    Sums are scaled by sqrt(1/2), which keeps the variance.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, *, attention: bool, resample: str) -> None:
        super().__init__()
        self.resample = resample
        self.norm0 = group_norm(inputs)
        self.conv0 = convolution(inputs, outputs)
        self.affine = nn.Linear(embedding, outputs)
        self.norm1 = group_norm(outputs)
        self.conv1 = convolution(outputs, outputs, gain=1e-5)
        straight = inputs == outputs and resample == "none"
        self.skip = nn.Identity() if straight else convolution(inputs, outputs, size=1)
        self.attention = SelfAttention(outputs) if attention else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv0(resampled(functional.silu(self.norm0(x)), self.resample))
        h = functional.silu(self.norm1(h + self.affine(embedding)[:, :, None, None]))
        x = (self.skip(resampled(x, self.resample)) + self.conv1(h)) * math.sqrt(0.5)
        return x if self.attention is None else (x + self.attention(x)) * math.sqrt(0.5)


class SelfAttention(nn.Module):
    """One head over all positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = convolution(channels, 3 * channels, size=1, gain=math.sqrt(0.2))
        self.out = convolution(channels, channels, size=1, gain=1e-5)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Tensor:
        query, key, value = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(x.shape))
        return out


def convolution(inputs: int, outputs: int, *, size: int = 3, gain: float = 1.0) -> nn.Conv2d:
    """A convolution that keeps the size; `gain` scales the initial weights (nearly 0: a block starts as identity)."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    nn.init.xavier_uniform_(layer.weight, gain=gain)
    layer.bias = nn.Parameter(torch.zeros(outputs))
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(channels, min(32, max(1, channels // 4))), channels, eps=1e-6)


def resampled(x: Float[Tensor, "batch channels height width"], how: str) -> Tensor:
    """Halve or double the resolution with a 2x2 box."""
    if how == "down":
        return functional.avg_pool2d(x, 2)
    return functional.interpolate(x, scale_factor=2, mode="nearest") if how == "up" else x
