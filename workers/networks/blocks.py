"""The residual block of DDPM++, NCSN++ and ADM, with what they do differently (EDM, Karras et al. 2022, table 7)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from workers.diffusion.conditions import DropoutNoise
from workers.networks.layers import as_image, as_pixels, attention, group_norm, heads_of, num_heads, resampling
from workers.networks.plan import BlockPlan


@dataclass(frozen=True, slots=True)
class BlockStyle:
    """What a family of networks does in all its blocks."""

    norm_epsilon: float
    scales_by_embedding: bool  # the embedding scales and shifts after the norm; else it is added before
    keeps_variance: bool  # sums are scaled by sqrt(1/2)
    projects_resampled: bool  # a 1x1 convolution on the skip path also where only the resolution changes
    smooth_resampling: bool
    channels_per_head: int | None  # None: one head


class Block(nn.Module):
    """Two convolutions and the embedding on a residual path, then self-attention on another.

    The parameters are named as in the published snapshots. Rows of `qkv` are ordered [3, heads, channels of a head].
    """

    def __init__(self, block: BlockPlan, embedding_width: int, style: BlockStyle) -> None:
        super().__init__()
        inputs, outputs = block.inputs, block.outputs
        self.dropout_layer = block.dropout_layer
        self.scales_by_embedding = style.scales_by_embedding
        self.keeps_variance = style.keeps_variance
        self.resample = resampling(block.resample, inputs, smooth=style.smooth_resampling)
        self.norm0 = group_norm(inputs, style.norm_epsilon)
        self.conv0 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.affine = nn.Linear(embedding_width, 2 * outputs if style.scales_by_embedding else outputs)
        self.norm1 = group_norm(outputs, style.norm_epsilon)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, padding=1)
        projects = inputs != outputs or (block.resample != "none" and style.projects_resampled)
        self.skip = nn.Conv2d(inputs, outputs, 1) if projects else nn.Identity()
        self.num_heads = num_heads(outputs, style.channels_per_head or outputs) if block.attention else 0
        if block.attention:
            self.norm2 = group_norm(outputs, style.norm_epsilon)
            self.qkv = nn.Conv2d(outputs, 3 * outputs, 1)
            self.proj = nn.Conv2d(outputs, outputs, 1)

    def forward(
        self,
        x: Float[Tensor, "batch inputs height width"],
        embedding: Float[Tensor, "batch width"],
        dropout: DropoutNoise | None,
    ) -> Float[Tensor, "batch outputs new_height new_width"]:
        h = self.conv0(self.resample(functional.silu(self.norm0(x))))
        emb = self.affine(embedding)[:, :, None, None]
        if self.scales_by_embedding:
            scale, shift = emb.chunk(2, dim=1)
            h = functional.silu(self.norm1(h) * (1 + scale) + shift)
        else:
            h = functional.silu(self.norm1(h + emb))
        if dropout is not None:
            h = dropout.applied(h, self.dropout_layer)
        x = self._sum(self.skip(self.resample(x)), self.conv1(h))
        return self._sum(x, self._attention(x)) if self.num_heads else x

    def _sum(self, x: Tensor, h: Tensor) -> Tensor:
        return (x + h) * math.sqrt(0.5) if self.keeps_variance else x + h

    def _attention(self, x: Float[Tensor, "batch channels height width"]) -> Tensor:
        # As matrix products over pixels, the 1x1 convolutions give attention the layout that its fast kernels take.
        qkv = functional.linear(as_pixels(self.norm2(x)), self.qkv.weight.flatten(1), self.qkv.bias)
        mixed = attention(heads_of(qkv, self.num_heads))
        return as_image(functional.linear(mixed, self.proj.weight.flatten(1), self.proj.bias), like=x)


def decoded(
    blocks: nn.ModuleDict,
    plans: tuple[BlockPlan, ...],
    skips: list[Tensor],
    embedding: Float[Tensor, "batch width"],
    dropout: DropoutNoise | None,
) -> Float[Tensor, "batch channels height width"]:
    """Run the decoder from the last output of the encoder upwards; uses up `skips`, newest first."""
    x = skips[-1]
    for block in plans:
        if block.joins_skip:
            x = torch.cat([x, skips.pop()], dim=1)
        x = blocks[block.name](x, embedding, dropout)
    return x
