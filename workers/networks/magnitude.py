"""Layers that keep the magnitude of what passes them (EDM2, Karras et al. 2024, arXiv 2312.02696, appendix B)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

_EPSILON = 1e-4
_SILU_MAGNITUDE = 0.596  # root mean square of silu of a standard normal number


def pixel_norm(x: Float[Tensor, "batch channels *size"], dim: int = 1) -> Float[Tensor, "batch channels *size"]:
    """Scale each pixel to a root mean square of 1 over its channels (Karras et al. 2018, arXiv 1710.10196)."""
    precise = torch.promote_types(x.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=precise)
    magnitude = norm / math.sqrt(x.shape[dim])
    return x * (magnitude + _EPSILON).reciprocal().to(x.dtype)


def silu(x: Tensor) -> Tensor:
    """MP-SiLU: x sigmoid(x), with a mean square of 1 for standard normal x (equation 81)."""
    return functional.silu(x).div(_SILU_MAGNITUDE)


def weighted_sum(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """MP-Sum: (1 - weight) a + weight b, scaled to the magnitude of independent a and b (equation 88)."""
    scale = 1 / math.hypot(1 - weight, weight)
    return a * ((1 - weight) * scale) + b * (weight * scale)


def concatenated(
    a: Float[Tensor, "batch a_channels *size"], b: Float[Tensor, "batch b_channels *size"]
) -> Float[Tensor, "batch all_channels *size"]:
    """MP-Cat: both with the same influence on what follows, however many channels each has (equation 103, t = 1/2)."""
    channels = a.shape[1] + b.shape[1]
    scale_a, scale_b = (math.sqrt(channels / (2 * part.shape[1])) for part in (a, b))
    return torch.cat([a * scale_a, b * scale_b], dim=1)


class FourierFeatures(nn.Module):
    """MP-Fourier: sqrt(2) cos(2 pi (frequency c_noise + phase)), frequencies normal, phases uniform (equation 75)."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(features))
        self.register_buffer("phases", 2 * math.pi * torch.rand(features))

    def forward(self, c_noise: Float[Tensor, " batch"]) -> Float[Tensor, "batch features"]:
        return math.sqrt(2) * (c_noise.outer(self.freqs) + self.phases).cos()


class UnitLayer(nn.Module):
    """A convolution, or without `kernel_size` a linear layer, whose weights for each output have norm 1. No bias."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int | None = None) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *(kernel_size, kernel_size) if kernel_size else ()))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        weight = self.unit_weight() * gain
        if self.kernel_size is None:
            return functional.linear(x, weight)
        return functional.conv2d(x, weight, padding=self.kernel_size // 2)

    def unit_weight(self) -> Float[Tensor, "outputs inputs *kernel"]:
        """Equation 47; differentiable, so that the gradient has no part along the weights."""
        dims = tuple(range(1, self.weight.ndim))
        norm: Tensor = torch.linalg.vector_norm(self.weight, dim=dims, keepdim=True)
        return self.weight / (norm + _EPSILON)

    @torch.no_grad()
    def normalize_weight(self) -> None:
        """Bring the elements back to a mean square of 1, so that steps of the optimizer keep their relative size."""
        self.weight.copy_(self.unit_weight() * math.sqrt(self.weight[0].numel()))
