"""The magnitude-preserving U-Net of EDM2 (Karras et al. 2024, arXiv 2312.02696, configuration G)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workers.contract.networks import EDM2
from workers.diffusion.conditions import Conditions, DropoutNoise
from workers.diffusion.denoiser import Network
from workers.networks.layers import OneHot, as_image, as_pixels, attention, heads_of, num_heads, resampling
from workers.networks.magnitude import FourierFeatures, UnitLayer, concatenated, pixel_norm, silu, weighted_sum
from workers.networks.plan import BlockPlan, plan_unet

_CHANNELS_PER_HEAD = 64
_RESIDUAL_WEIGHT = 0.3  # of what a block or its attention adds, beside 0.7 of what it was given
_LABEL_WEIGHT = 0.5
_LARGEST_ACTIVATION = 256.0


class MagnitudePreservingUNet(Network):
    """All activations have a magnitude of about 1, without group norms and biases.

    The weights are normalised wherever they are used; `normalize_weights`, called after each step of the optimizer,
    also keeps those that are stored from growing, which would shrink the effect of later steps.
    """

    def __init__(self, config: EDM2, *, image_channels: int, resolution: int, num_classes: int) -> None:
        super().__init__()
        self.plan = plan_unet(config, resolution, decoder_attention="every block")
        self.dropout_elements = self.plan.largest_output if config.dropout else 0
        features = config.channels * config.channel_multipliers[0]
        width = config.channels * max(config.channel_multipliers)
        self.noise = FourierFeatures(features)
        self.embed_noise = UnitLayer(features, width)
        self.one_hot = OneHot(num_classes)
        self.embed_label = UnitLayer(num_classes, width) if num_classes else None

        self.first = UnitLayer(image_channels + 1, self.plan.width, 3)
        self.encoder = nn.ModuleDict({block.name: EncoderBlock(block, width) for block in self.plan.encoder})
        self.decoder = nn.ModuleDict({block.name: DecoderBlock(block, width) for block in self.plan.decoder})
        self.last = UnitLayer(self.plan.decoder[-1].outputs, image_channels, 3)
        self.last_gain = nn.Parameter(torch.zeros(()))

    def forward(
        self, x: Float[Tensor, "batch channels height width"], c_noise: Float[Tensor, " batch"], conditions: Conditions
    ) -> Float[Tensor, "batch channels height width"]:
        with torch.autocast(x.device.type, enabled=False):
            embedding = self._embedding(c_noise, conditions)
        x = self.first(torch.cat([x, torch.ones_like(x[:, :1])], dim=1))  # the ones stand in for biases
        skips = [x]
        for block in self.plan.encoder:
            x = self.encoder[block.name](x, embedding, conditions.dropout)
            skips.append(x)
        for block in self.plan.decoder:
            if block.joins_skip:
                x = concatenated(x, skips.pop())
            x = self.decoder[block.name](x, embedding, conditions.dropout)
        out: Tensor = self.last(x, gain=self.last_gain)
        return out

    def normalize_weights(self) -> None:
        """The forced normalisation; changes no output."""
        for layer in self.modules():
            if isinstance(layer, UnitLayer):
                layer.normalize_weight()

    def _embedding(self, c_noise: Float[Tensor, " batch"], conditions: Conditions) -> Float[Tensor, "batch width"]:
        embedding: Tensor = self.embed_noise(self.noise(c_noise))
        if self.embed_label is not None:
            one_hot = self.one_hot(conditions.labels, like=c_noise)
            label = self.embed_label(one_hot * math.sqrt(one_hot.shape[1]))
            embedding = weighted_sum(embedding, label, _LABEL_WEIGHT)
        return silu(embedding)


class _Block(nn.Module):
    """What both kinds of blocks do after their skip path: add the residual path, then self-attention.

    With dot products of queries and keys of unit magnitude (cosine attention).
    """

    def __init__(self, block: BlockPlan, embedding_width: int, residual_inputs: int) -> None:
        super().__init__()
        self.dropout_layer = block.dropout_layer
        self.resample = resampling(block.resample, block.inputs, smooth=False)
        self.skip = UnitLayer(block.inputs, block.outputs, 1) if block.inputs != block.outputs else nn.Identity()
        self.conv0 = UnitLayer(residual_inputs, block.outputs, 3)
        self.embed = UnitLayer(embedding_width, block.outputs)
        self.embed_gain = nn.Parameter(torch.zeros(()))
        self.conv1 = UnitLayer(block.outputs, block.outputs, 3)
        self.num_heads = num_heads(block.outputs, _CHANNELS_PER_HEAD) if block.attention else 0
        if block.attention:
            self.qkv = UnitLayer(block.outputs, 3 * block.outputs)
            self.proj = UnitLayer(block.outputs, block.outputs)

    def _residual(
        self,
        x: Float[Tensor, "batch residual_inputs height width"],
        embedding: Float[Tensor, "batch width"],
        dropout: DropoutNoise | None,
    ) -> Float[Tensor, "batch outputs height width"]:
        emb = self.embed(embedding, gain=self.embed_gain)[:, :, None, None]
        h = silu(self.conv0(silu(x)) * (1 + emb))
        if dropout is not None:
            h = dropout.applied(h, self.dropout_layer)
        out: Tensor = self.conv1(h)
        return out

    def _finished(
        self, x: Float[Tensor, "batch outputs height width"], residual: Float[Tensor, "batch outputs height width"]
    ) -> Float[Tensor, "batch outputs height width"]:
        x = weighted_sum(x, residual, _RESIDUAL_WEIGHT)
        if self.num_heads:
            qkv = pixel_norm(heads_of(self.qkv(as_pixels(x)), self.num_heads), dim=-1)
            attended = as_image(self.proj(attention(qkv)), like=x)
            x = weighted_sum(x, attended, _RESIDUAL_WEIGHT)
        return x.clamp(-_LARGEST_ACTIVATION, _LARGEST_ACTIVATION)


class EncoderBlock(_Block):
    """Brings its input to its own width and to unit magnitude before it branches."""

    def __init__(self, block: BlockPlan, embedding_width: int) -> None:
        super().__init__(block, embedding_width, residual_inputs=block.outputs)

    def forward(
        self,
        x: Float[Tensor, "batch inputs height width"],
        embedding: Float[Tensor, "batch width"],
        dropout: DropoutNoise | None,
    ) -> Float[Tensor, "batch outputs new_height new_width"]:
        x = pixel_norm(self.skip(self.resample(x)))
        return self._finished(x, self._residual(x, embedding, dropout))


class DecoderBlock(_Block):
    """Its input, two parts of different magnitude, is weighted by the skip path only."""

    def __init__(self, block: BlockPlan, embedding_width: int) -> None:
        super().__init__(block, embedding_width, residual_inputs=block.inputs)

    def forward(
        self,
        x: Float[Tensor, "batch inputs height width"],
        embedding: Float[Tensor, "batch width"],
        dropout: DropoutNoise | None,
    ) -> Float[Tensor, "batch outputs new_height new_width"]:
        x = self.resample(x)
        return self._finished(self.skip(x), self._residual(x, embedding, dropout))
