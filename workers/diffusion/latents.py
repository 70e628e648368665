"""Noise as a function of whose it is, so that an image does not depend on those drawn with it, nor on where."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def normal(*identity: int, shape: tuple[int, ...]) -> Float[Tensor, "*shape"]:
    """Standard normal numbers for whatever these numbers identify, in this order.

    Drawn on the CPU, so that every kind of device starts from the same noise.
    """
    mixed = np.random.SeedSequence(identity).generate_state(1, np.uint64)[0] >> np.uint64(1)
    return torch.randn(shape, generator=torch.Generator().manual_seed(int(mixed)))
