"""DDPM++, NCSN++ and ADM once more, slowly: the equations of EDM's table of networks over a dictionary of weights.

Written for comparison with `workers/networks` and shares nothing with it: every product of attention is materialised,
every filter is a sum over an image with zeros between its pixels. Names are those of the published snapshots; the rows
of `qkv` are ordered [3, heads, channels of a head].
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad


@dataclass
class ReferenceNetwork:
    """`used` collects the names that were looked up: in the end, all there are."""

    kind: str
    weights: dict[str, Tensor]
    used: set[str] = field(default_factory=set)

    def __call__(self, x: Tensor, c_noise: Tensor, labels: Tensor | None, augmentation: Tensor | None) -> Tensor:
        embedding = self.embedding(c_noise, labels, augmentation)
        resolutions = [x.shape[-1]]
        while self.has(f"enc.{resolutions[-1] // 2}x{resolutions[-1] // 2}_down"):
            resolutions.append(resolutions[-1] // 2)

        pyramid = x
        skips = []
        for r in resolutions:
            if r == resolutions[0]:
                x = self.convolution(f"enc.{r}x{r}_conv", x)
            else:
                x = self.block(f"enc.{r}x{r}_down", x, embedding, change=0.5)
                if self.kind == "ncsnpp":
                    pyramid = self.pyramid_convolution(f"enc.{r}x{r}_aux_residual", pyramid)
                    x = pyramid = (x + pyramid) / math.sqrt(2)
            skips.append(x)
            for name in self.numbered(f"enc.{r}x{r}_block"):
                x = self.block(name, x, embedding)
                skips.append(x)

        for r in resolutions[::-1]:
            if r == resolutions[-1]:
                x = self.block(f"dec.{r}x{r}_in0", x, embedding)
                x = self.block(f"dec.{r}x{r}_in1", x, embedding)
            else:
                x = self.block(f"dec.{r}x{r}_up", x, embedding, change=2)
            for name in self.numbered(f"dec.{r}x{r}_block"):
                x = self.block(name, torch.cat([x, skips.pop()], dim=1), embedding)
        assert not skips
        norm, conv = (
            ("out_norm", "out_conv") if self.kind == "adm" else (f"dec.{r}x{r}_aux_norm", f"dec.{r}x{r}_aux_conv")
        )
        return self.convolution(conv, silu(self.norm(norm, x)))

    # Weights

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.weights)

    def numbered(self, prefix: str) -> list[str]:
        return [f"{prefix}{i}" for i in range(len(self.weights)) if self.has(f"{prefix}{i}")]

    def weight(self, name: str) -> Tensor:
        self.used.add(name)
        return self.weights[name]

    def bias(self, name: str) -> Tensor | float:
        return self.weight(f"{name}.bias") if f"{name}.bias" in self.weights else 0.0

    # Layers

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weight(f"{name}.weight").T + self.bias(name)

    def convolution(self, name: str, x: Tensor) -> Tensor:
        weight = self.weight(f"{name}.weight")
        return conv2d(x, weight, padding=weight.shape[-1] // 2) + self.bias(name).view(-1, 1, 1)

    def norm(self, name: str, x: Tensor) -> Tensor:
        groups = min(32, x.shape[1] // 4)
        grouped = x.reshape(len(x), groups, -1)
        mean = grouped.mean(dim=2, keepdim=True)
        variance = (grouped - mean).square().mean(dim=2, keepdim=True)
        epsilon = 1e-5 if self.kind == "adm" else 1e-6
        normal = ((grouped - mean) / (variance + epsilon).sqrt()).view(x.shape)
        return normal * self.weight(f"{name}.weight").view(-1, 1, 1) + self.bias(name).view(-1, 1, 1)

    # Resampling

    @property
    def filter(self) -> Tensor:
        line = self.weights["map_layer0.weight"].new_tensor([1, 3, 3, 1] if self.kind == "ncsnpp" else [1, 1])
        return torch.outer(line, line) / line.sum() ** 2

    def resampled(self, x: Tensor, change: float) -> Tensor:
        size, margin = len(self.filter), (len(self.filter) - 1) // 2
        if change == 0.5:
            return filtered(pad(x, [margin] * 4), self.filter)[:, :, ::2, ::2]
        if change == 2:
            apart = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
            apart[:, :, ::2, ::2] = x
            return filtered(pad(apart, [size - 1 - margin, margin] * 2), 4 * self.filter)
        return x

    def pyramid_convolution(self, name: str, x: Tensor) -> Tensor:
        """Convolution and filter as one: what lies beyond the border is 0 for their product only."""
        margin = (len(self.filter) - 1) // 2
        wide = conv2d(pad(x, [1 + margin] * 4), self.weight(f"{name}.weight"))
        return filtered(wide, self.filter)[:, :, ::2, ::2] + self.bias(name).view(-1, 1, 1)

    # Blocks

    def block(self, name: str, x: Tensor, embedding: Tensor, change: float = 1) -> Tensor:
        skip_scale = 1.0 if self.kind == "adm" else math.sqrt(0.5)
        h = self.convolution(f"{name}.conv0", self.resampled(silu(self.norm(f"{name}.norm0", x)), change))
        told = self.linear(f"{name}.affine", embedding)[:, :, None, None]
        if self.kind == "adm":
            scale, shift = told[:, : h.shape[1]], told[:, h.shape[1] :]
            h = self.norm(f"{name}.norm1", h) * (scale + 1) + shift
        else:
            h = self.norm(f"{name}.norm1", h + told)
        h = self.convolution(f"{name}.conv1", silu(h))
        x = self.resampled(x, change)
        if self.has(f"{name}.skip"):
            x = self.convolution(f"{name}.skip", x)
        x = (x + h) * skip_scale
        return (x + self.attention(name, x)) * skip_scale if self.has(f"{name}.qkv") else x

    def attention(self, name: str, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        heads = channels // 64 if self.kind == "adm" else 1
        qkv = self.convolution(f"{name}.qkv", self.norm(f"{name}.norm2", x))
        q, k, v = qkv.reshape(batch, 3, heads, channels // heads, height * width).unbind(1)
        weights = torch.einsum("bhcq,bhck->bhqk", q, k / math.sqrt(channels // heads)).softmax(dim=3)
        mixed = torch.einsum("bhqk,bhck->bhcq", weights, v).reshape(batch, channels, height, width)
        return self.convolution(f"{name}.proj", mixed)

    # Embedding

    def embedding(self, c_noise: Tensor, labels: Tensor | None, augmentation: Tensor | None) -> Tensor:
        features = self.weight("map_layer0.weight").shape[1]
        half = features // 2
        if self.kind == "ncsnpp":
            frequencies = 2 * math.pi * self.weight("map_noise.freqs")
        else:
            last = half if self.kind == "adm" else half - 1
            frequencies = c_noise.new_tensor([10_000 ** -(i / last) for i in range(half)])
        angles = c_noise[:, None] * frequencies[None]
        parts = [angles.cos(), angles.sin()]
        e = torch.cat(parts if self.kind == "adm" else parts[::-1], dim=1)
        one_hot = None
        if "map_label.weight" in self.weights:
            classes = self.weight("map_label.weight").shape[1]
            one_hot = c_noise.new_zeros(len(c_noise), classes)
            for row, label in enumerate(labels.tolist() if labels is not None else []):
                if label >= 0:
                    one_hot[row, label] = 1
        if augmentation is not None:
            e = e + self.linear("map_augment", augmentation)
        if one_hot is not None and self.kind != "adm":
            e = e + self.linear("map_label", one_hot * math.sqrt(classes))
        e = self.linear("map_layer1", silu(self.linear("map_layer0", e)))
        if one_hot is not None and self.kind == "adm":
            e = e + self.linear("map_label", one_hot)
        return silu(e)


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def filtered(x: Tensor, kernel: Tensor) -> Tensor:
    """Every channel with the same kernel, without padding."""
    batch, channels, *size = x.shape
    out = conv2d(x.reshape(batch * channels, 1, *size), kernel[None, None])
    return out.view(batch, channels, *out.shape[2:])
