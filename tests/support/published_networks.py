"""What the networks in the snapshots of EDM and CDM are made with, and the names and shapes of their tensors.

Written from the facts about the format, on purpose without a look at `workers.networks`: the two have to agree.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["ddpmpp", "ncsnpp", "adm"]
Shapes = Iterator[tuple[str, tuple[int, ...]]]

_SONG = {"encoder_type": "standard", "decoder_type": "standard"}
_FAMILIES: dict[Kind, dict[str, Any]] = {
    "ddpmpp": _SONG | {"embedding_type": "positional", "channel_mult_noise": 1, "resample_filter": [1, 1]},
    "ncsnpp": _SONG
    | {"embedding_type": "fourier", "channel_mult_noise": 2, "resample_filter": [1, 3, 3, 1]}
    | {"encoder_type": "residual"},
    "adm": {},
}


@dataclass(frozen=True)
class Published:
    """A network as its authors build and name it."""

    kind: Kind
    options: dict[str, Any]

    @property
    def class_name(self) -> str:
        return "DhariwalUNet" if self.kind == "adm" else "SongUNet"

    def tensors(self, *, seed: int = 0) -> dict[str, Tensor]:
        """Random numbers of a sensible size; a `resample_filter` is what it always is."""
        generator = torch.Generator().manual_seed(seed)
        line = torch.tensor(self.options.get("resample_filter", [1, 1]), dtype=torch.float32)
        constant = (line.outer(line) / line.sum() ** 2)[None, None]
        drawn = {}
        for name, shape in self.shapes():
            noise = torch.randn(shape, generator=generator)
            if name.endswith("resample_filter"):
                drawn[name] = constant
            elif name.endswith("weight") and "norm" in name:
                drawn[name] = 1 + noise / 10
            else:
                drawn[name] = noise / math.sqrt(math.prod(shape[1:]) or 1) if len(shape) > 1 else noise / 10
        return drawn

    def shapes(self) -> Shapes:
        """Parameters and buffers by name, without `model.`."""
        given, song = self.options, self.kind != "adm"
        width = 4 * given["model_channels"]
        features = given["model_channels"] * given.get("channel_mult_noise", 1)
        if self.kind == "ncsnpp":
            yield "map_noise.freqs", (features // 2,)
        if given["label_dim"]:
            yield "map_label.weight", (features if song else width, given["label_dim"])
        if given["label_dim"] and song:
            yield "map_label.bias", (features,)
        if given["augment_dim"]:
            yield "map_augment.weight", (features, given["augment_dim"])
        yield from _layer("map_layer0", width, features)
        yield from _layer("map_layer1", width, width)
        skips, last = yield from self._encoder()
        last = yield from self._decoder(skips, last)
        size, colours = given["img_resolution"], given["out_channels"]
        yield from _layer(f"dec.{size}x{size}_aux_norm" if song else "out_norm", last)
        yield from _layer(f"dec.{size}x{size}_aux_conv" if song else "out_conv", colours, last, 3, 3)

    def _encoder(self) -> Any:
        given = self.options
        size, width, pyramid = given["img_resolution"], given["model_channels"], given["in_channels"]
        yield from _layer(f"enc.{size}x{size}_conv", width, pyramid, 3, 3)
        skips = [width]
        for level, multiplier in enumerate(given["channel_mult"]):
            here = f"enc.{size >> level}x{size >> level}"
            if level:
                yield from self._block(f"{here}_down", width, width, resamples=True)
                skips.append(width)
            if level and self.kind == "ncsnpp":
                yield from _layer(f"{here}_aux_residual", width, pyramid, 3, 3)
                yield f"{here}_aux_residual.resample_filter", (1, 1, 4, 4)
                pyramid = width
            for index in range(given["num_blocks"]):
                attention = size >> level in given["attn_resolutions"]
                before, width = width, given["model_channels"] * multiplier
                yield from self._block(f"{here}_block{index}", before, width, attention=attention)
                skips.append(width)
        return skips, width

    def _decoder(self, skips: list[int], width: int) -> Any:
        given = self.options
        for level, multiplier in reversed([*enumerate(given["channel_mult"])]):
            size = given["img_resolution"] >> level
            here = f"dec.{size}x{size}"
            if level == len(given["channel_mult"]) - 1:
                yield from self._block(f"{here}_in0", width, width, attention=True)
                yield from self._block(f"{here}_in1", width, width)
            else:
                yield from self._block(f"{here}_up", width, width, resamples=True)
            for index in range(given["num_blocks"] + 1):
                attends = self.kind == "adm" or index == given["num_blocks"]
                before, width = width + skips.pop(), given["model_channels"] * multiplier
                attention = attends and size in given["attn_resolutions"]
                yield from self._block(f"{here}_block{index}", before, width, attention=attention)
        return width

    def _block(self, name: str, before: int, width: int, *, resamples: bool = False, attention: bool = False) -> Shapes:
        filter_size = len(self.options.get("resample_filter", [1, 1]))
        yield from _layer(f"{name}.norm0", before)
        yield from _layer(f"{name}.conv0", width, before, 3, 3)
        yield from _layer(
            f"{name}.affine", (2 if self.kind == "adm" else 1) * width, 4 * self.options["model_channels"]
        )
        yield from _layer(f"{name}.norm1", width)
        yield from _layer(f"{name}.conv1", width, width, 3, 3)
        if before != width or (resamples and self.kind != "adm"):
            yield from _layer(f"{name}.skip", width, before, 1, 1)
        if resamples:
            yield f"{name}.conv0.resample_filter", (1, 1, filter_size, filter_size)
            yield f"{name}.skip.resample_filter", (1, 1, filter_size, filter_size)
        if attention:
            yield from _layer(f"{name}.norm2", width)
            yield from _layer(f"{name}.qkv", 3 * width, width, 1, 1)
            yield from _layer(f"{name}.proj", width, width, 1, 1)


def published(
    kind: Kind,
    *,
    channels: int = 32,
    multipliers: tuple[int, ...] = (1, 4),
    blocks: int = 1,
    resolution: int = 8,
    attention: tuple[int, ...] = (4,),
    label_dim: int = 0,
    augment_dim: int = 0,
) -> Published:
    """By default one so small that it is run in no time; its widest blocks attend, those of ADM with two heads."""
    images = {"img_resolution": resolution, "in_channels": 3, "out_channels": 3}
    told = {"label_dim": label_dim, "augment_dim": augment_dim}
    layout = {"model_channels": channels, "channel_mult": [*multipliers], "num_blocks": blocks, "dropout": 0.13}
    return Published(kind, {**images, **told, **layout, "attn_resolutions": [*attention], **_FAMILIES[kind]})


def _layer(name: str, *shape: int) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]
