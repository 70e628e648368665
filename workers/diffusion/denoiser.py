"""The denoiser: a network in its preconditioning."""

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workers.contract.model import Preconditioning
from workers.diffusion.conditions import UNCONDITIONAL, Conditions
from workers.diffusion.preconditioning import loss_weight, scalings


class Network(nn.Module):
    """F(x, c_noise, conditions): from a noisy image in unit variance and its noise level to the denoiser's raw output.

    What is trained, averaged, resumed and shared out over workers relies on this:

    - It is a function of its arguments alone. Dropout is what `conditions.dropout` says, in training and evaluation
      alike (None: there is none), so it has no `nn.Dropout`, and draws nothing.
    - Its buffers are constants: averages are of parameters, so nothing like the running mean of batch norm may be in
      them. What does not follow from its configuration, such as frequencies drawn, is persistent: checkpoints hold it.
    - Every parameter has a gradient in every pass of training: DDP waits for each.
    - It reads the labels if its configuration is `class_conditional`, and how images were augmented if that
      `takes_augmentation`; `NO_CLASS`, or no labels, mean unconditional.
    """

    dropout_elements: int = 0  # the most elements that an image has at a dropout layer; 0: the network has no dropout

    def forward(
        self, x: Float[Tensor, "batch channels *size"], c_noise: Float[Tensor, " batch"], conditions: Conditions
    ) -> Float[Tensor, "batch channels *size"]:
        raise NotImplementedError


class Denoise(Protocol):
    """D(x, sigma), the image expected behind a noisy one: a trained network, or a closed form in tests."""

    def __call__(
        self, x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, " batch"], conditions: Conditions = UNCONDITIONAL
    ) -> Float[Tensor, "batch *shape"]: ...


class WeightedDenoise(Denoise, Protocol):
    """With the weight that its loss has at a noise level."""

    def weight(self, sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]: ...


def per_image(value: Float[Tensor, " batch"], x: Float[Tensor, "batch *shape"]) -> Tensor:
    """Shape one number per image so that it multiplies images."""
    return value.view(-1, *[1] * (x.ndim - 1))


def mean_of_elements(values: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    """Mean over everything but the batch."""
    return values.flatten(1).mean(1)


class Denoiser(nn.Module):
    """D(x, sigma) = c_skip x + c_out F(c_in x, c_noise): the network sees and predicts values of unit variance.

    The network F(x, c_noise, conditions) runs in `precision`, everything around it in float32.
    """

    def __init__(
        self,
        network: Network,
        *,
        preconditioning: Preconditioning,
        sigma_data: float,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network = network
        self.preconditioning = preconditioning
        self.sigma_data = sigma_data
        self.precision = precision
        self.compiled: Callable[..., Tensor] | None = None  # what runs instead of the network's own forward

    def forward(
        self, x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, " batch"], conditions: Conditions = UNCONDITIONAL
    ) -> Float[Tensor, "batch *shape"]:
        c = scalings(self.preconditioning, self.sigma_data, sigma)
        with torch.autocast(x.device.type, self.precision, enabled=self.precision != torch.float32):
            raw: Tensor = (self.compiled or self.network)(per_image(c.in_, x) * x, c.noise, conditions)
        return per_image(c.skip, x) * x + per_image(c.out, x) * raw.float()

    def weight(self, sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """lambda(sigma) of denoising score matching."""
        return loss_weight(self.preconditioning, self.sigma_data, sigma)
