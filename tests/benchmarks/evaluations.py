"""How often a training step evaluates its networks, counted by forward hooks, and what that should cost."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class Evaluations:
    """Evaluations of a network for each image of a batch, with and without a graph for the backward pass."""

    num_images: int
    with_gradient: float = 0.0
    without: float = 0.0

    @property
    def cost(self) -> float:
        """In units of one forward pass for one image; a backward pass costs two. Plain diffusion training: 3."""
        return 3 * self.with_gradient + self.without

    def count(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        share = len(inputs[0]) / self.num_images
        if torch.is_grad_enabled():
            self.with_gradient += share
        else:
            self.without += share


@contextmanager
def counted(*networks: nn.Module, num_images: int) -> Iterator[Evaluations]:
    """Count the evaluations of all `networks` inside the block, per image of a batch of `num_images`."""
    evaluations = Evaluations(num_images)
    with ExitStack() as stack:
        for network in networks:
            hook = network.register_forward_hook(evaluations.count)
            stack.callback(hook.remove)
        yield evaluations
