"""Several networks as one: those of all seeds and cases are evaluated in the calls of one.

In a joint batch the points of the networks lie side by side: point 0 of each network, point 1 of each network, and so
on. What slices or repeats a batch, as the product's objective does, then does so for every network.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workers.diffusion.conditions import Conditions
from workers.diffusion.denoiser import Denoiser, Network
from workers.diffusion.objective import Draws


def stacked(denoisers: Sequence[Denoiser]) -> Denoiser:
    """One denoiser of joint batches; the first dimension of all its parameters is that of the networks."""
    joint = deepcopy(denoisers[0])
    joint.network = StackedNetwork([each.network for each in denoisers])
    return joint


class StackedNetwork(Network):
    """The product's network, its linear layers stacked. Inside, points lie network by network: no layer moves them."""

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.network = deepcopy(networks[0])
        for name, module in networks[0].named_modules():
            if isinstance(module, nn.Linear):
                self.network.set_submodule(name, StackedLinear([each.get_submodule(name) for each in networks]))

    def forward(
        self, x: Float[Tensor, "points_networks *shape"], c_noise: Float[Tensor, " _"], conditions: Conditions
    ) -> Float[Tensor, "points_networks *shape"]:
        num_networks = len(next(self.parameters()))
        x, c_noise = (apart(each, num_networks).flatten(0, 1) for each in (x, c_noise))
        out: Tensor = self.network(x, c_noise, conditions)
        return out.view(num_networks, -1, *out.shape[1:]).transpose(0, 1).flatten(0, 1)


class StackedLinear(nn.Module):
    """Each network's points times its own matrix, in one call."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        weights, biases = zip(*(layer.parameters() for layer in layers), strict=True)
        self.weight = nn.Parameter(torch.stack(weights).detach())
        self.bias = nn.Parameter(torch.stack(biases).detach())

    def forward(self, x: Float[Tensor, "networks_points inputs"]) -> Float[Tensor, "networks_points outputs"]:
        points = x.view(len(self.weight), -1, x.shape[1])
        return torch.baddbmm(self.bias[:, None], points, self.weight.mT).flatten(0, 1)


def apart(
    values: Float[Tensor, "points_networks *shape"], num_networks: int
) -> Float[Tensor, "networks points *shape"]:
    """Undo `side_by_side`."""
    return values.view(-1, num_networks, *values.shape[1:]).transpose(0, 1).contiguous()


def side_by_side(values: Sequence[Tensor], images: int = 0) -> Tensor:
    """Join what is for the batches of each network; `images` is the dimension of the batch."""
    return torch.stack([*values], images + 1).flatten(images, images + 1)


def draws_side_by_side(draws: Sequence[Draws]) -> Draws:
    """Join the randomness of a step; there is no dropout here."""
    names = ("sigma", "noise", "classless", "sigma_next")
    joint = {name: side_by_side([getattr(each, name) for each in draws]) for name in names}
    return Draws(**joint, dropout=None, step_noises=side_by_side([each.step_noises for each in draws], images=2))
