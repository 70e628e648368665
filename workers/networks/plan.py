"""The levels and blocks that all U-Nets share, as a list to build from and to walk along."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from workers.contract.networks import ADM, EDM2, DDPMpp, NCSNpp

Resampling: TypeAlias = Literal["none", "down", "up"]


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """One block; its name is the one that it has in the published snapshots of EDM."""

    name: str
    inputs: int
    outputs: int
    resolution: int  # of what it returns
    resample: Resampling = "none"
    attention: bool = False
    joins_skip: bool = False  # its input is what came before and the newest unused output of the encoder
    dropout_layer: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A first convolution to `width`, whose output is a skip connection as are those of all blocks of the encoder."""

    first: str
    width: int
    encoder: tuple[BlockPlan, ...]
    decoder: tuple[BlockPlan, ...]

    @property
    def largest_output(self) -> int:
        """The most elements that an image has between the two convolutions of a block."""
        return max(block.outputs * block.resolution**2 for block in self.encoder + self.decoder)


def plan_unet(
    config: DDPMpp | NCSNpp | ADM | EDM2, resolution: int, *, decoder_attention: Literal["every block", "last block"]
) -> Plan:
    """Lay out the blocks of `config` for images of `resolution`; `decoder_attention`: where a level's attention is."""
    encoder, width = _encoder(config, resolution)
    skips = [config.channels, *(block.outputs for block in encoder)]
    decoder = []
    for level, next_width in reversed(list(enumerate(config.channels * m for m in config.channel_multipliers))):
        size = resolution >> level
        if level == len(config.channel_multipliers) - 1:
            decoder.append(BlockPlan(_named(size, "in0"), width, width, size, attention=True))
            decoder.append(BlockPlan(_named(size, "in1"), width, width, size))
        else:
            decoder.append(BlockPlan(_named(size, "up"), width, width, size, resample="up"))
        for index in range(config.blocks_per_level + 1):
            attends = decoder_attention == "every block" or index == config.blocks_per_level
            attention = attends and size in config.attention_resolutions
            name = _named(size, f"block{index}")
            inputs = width + skips.pop()
            decoder.append(BlockPlan(name, inputs, next_width, size, attention=attention, joins_skip=True))
            width = next_width
    return Plan(_named(resolution, "conv"), config.channels, *_numbered(encoder, decoder))


def _encoder(config: DDPMpp | NCSNpp | ADM | EDM2, resolution: int) -> tuple[list[BlockPlan], int]:
    blocks, width = [], config.channels
    for level, multiplier in enumerate(config.channel_multipliers):
        size = resolution >> level
        if level:
            blocks.append(BlockPlan(_named(size, "down"), width, width, size, resample="down"))
        for index in range(config.blocks_per_level):
            attention = size in config.attention_resolutions
            outputs = config.channels * multiplier
            blocks.append(BlockPlan(_named(size, f"block{index}"), width, outputs, size, attention=attention))
            width = outputs
    return blocks, width


def _numbered(
    encoder: list[BlockPlan], decoder: list[BlockPlan]
) -> tuple[tuple[BlockPlan, ...], tuple[BlockPlan, ...]]:
    numbered = [replace(block, dropout_layer=number) for number, block in enumerate(encoder + decoder)]
    return tuple(numbered[: len(encoder)]), tuple(numbered[len(encoder) :])


def _named(size: int, what: str) -> str:
    return f"{size}x{size}_{what}"
