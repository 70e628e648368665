"""Bringing values from the host to a device."""

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A copy on the device, without waiting for it, which only pinned memory allows."""
    if device.type != "cuda":
        return values.to(device)
    # Of values that lie apart, `to` makes a copy first, which is not pinned.
    return values.contiguous().pin_memory().to(device, non_blocking=True)
