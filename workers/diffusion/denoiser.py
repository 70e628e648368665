"""The denoiser: a network in EDM's preconditioning."""

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Denoise(Protocol):
    """D(x, sigma, labels), the image expected behind a noisy one: a trained network, or a closed form in tests."""

    def __call__(
        self, x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, " batch"], labels: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch *shape"]: ...


def per_image(value: Float[Tensor, " batch"], x: Float[Tensor, "batch *shape"]) -> Tensor:
    """Shape one number per image so that it multiplies images."""
    return value.view(-1, *[1] * (x.ndim - 1))


def edm_weight(sigma: Float[Tensor, " batch"], sigma_data: float) -> Float[Tensor, " batch"]:
    """w(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 (EDM, table 1): all noise levels start alike."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


class Denoiser(nn.Module):
    """D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), which keeps the network's input and target at unit variance.

    The network F runs in `precision`; everything around it in float32 (EDM, section 5 and table 1).
    """

    def __init__(self, network: nn.Module, *, sigma_data: float, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network = network
        self.sigma_data = sigma_data
        self.precision = precision

    def forward(
        self,
        x: Float[Tensor, "batch *shape"],
        sigma: Float[Tensor, " batch"],
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch *shape"]:
        total = (sigma**2 + self.sigma_data**2).sqrt()
        c_skip = per_image(self.sigma_data**2 / total**2, x)
        c_out = per_image(sigma * self.sigma_data / total, x)
        c_in = per_image(1 / total, x)
        c_noise = sigma.log() / 4
        with torch.autocast(x.device.type, self.precision, enabled=self.precision != torch.float32):
            raw: Tensor = self.network(c_in * x, c_noise, labels)
        return c_skip * x + c_out * raw.float()
