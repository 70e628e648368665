"""Noise as a function of whose it is, so that an image does not depend on those drawn with it, nor on where."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workers.diffusion.transfer import to_device


def normal(*identity: int, shape: tuple[int, ...]) -> Float[Tensor, "*shape"]:
    """Standard normal numbers for whatever these numbers identify, in this order.

    Drawn on the CPU, so that every kind of device starts from the same noise, and by NumPy: of a seed PyTorch's
    generator takes 32 bits there, so that among 100,000 images some would be the same.
    """
    generator = np.random.default_rng(np.random.SeedSequence(identity))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


def normal_batch(
    identities: Iterable[tuple[int, ...]], shape: tuple[int, ...], device: torch.device
) -> Float[Tensor, "batch *shape"]:
    """Those of each, on a device."""
    return to_device(torch.stack([normal(*identity, shape=shape) for identity in identities]), device)
