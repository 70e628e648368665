"""Training images on the device that trains on them."""

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from workers.data import ImageSet
from workers.diffusion.transfer import to_device

_RESIDENT_SHARE = 0.1  # of the memory that is free before gradients, Adam's state and activations take theirs
_CHUNK = 10_000  # images on their way: several processes of a machine may do this at once


class Feed:
    """Brings images and labels by their index to a device; an image set small beside a GPU lives there whole."""

    def __init__(self, images: ImageSet, device: torch.device, *, resident: bool | None = None) -> None:
        """`resident` None decides by the memory that is free on a GPU; memory-mapped files serve a CPU as well."""
        self._images = images
        self._device = device
        self._whole = _whole(images, device) if _is_resident(images, device, resident) else None

    def batch(
        self, indices: Int64[np.ndarray, "batch"]
    ) -> tuple[UInt8[Tensor, "batch channels side side"], Int64[Tensor, "batch"] | None]:
        """These images and their classes, in the order asked for; no labels if the image set has none."""
        if self._whole is None:
            return self._fetched(indices)
        there = to_device(torch.from_numpy(indices), self._device)
        pixels, labels = self._whole
        return pixels[there], None if labels is None else labels[there]

    def _fetched(self, indices: Int64[np.ndarray, "batch"]) -> tuple[Tensor, Tensor | None]:
        labels = self._images.labels(indices)
        pixels = to_device(self._images.images(indices), self._device)
        return pixels, None if labels is None else to_device(labels, self._device)


def _whole(images: ImageSet, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """All of it, brought over in parts."""
    manifest = images.manifest
    size = (len(images), manifest.channels, manifest.resolution, manifest.resolution)
    pixels = torch.empty(size, dtype=torch.uint8, device=device)
    for first in range(0, len(images), _CHUNK):
        part = np.arange(first, min(first + _CHUNK, len(images)))
        pixels[first : first + _CHUNK] = images.images(part).to(device)
    labels = images.labels(np.arange(len(images)))
    return pixels, None if labels is None else labels.to(device)


def _is_resident(images: ImageSet, device: torch.device, wanted: bool | None) -> bool:
    if wanted is not None or device.type != "cuda":
        return bool(wanted)
    manifest = images.manifest
    num_bytes = manifest.num_images * manifest.channels * manifest.resolution**2
    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes <= _RESIDENT_SHARE * free
