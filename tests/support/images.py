"""Image sets in memory for tests of training."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from workers.contract.data import Dataset, DatasetManifest
from workers.data import ImageSet, import_dataset
from workers.storage.memory import MemoryStore


def imported(dataset: Dataset, cache: Path) -> ImageSet:
    store = MemoryStore()
    return ImageSet.open(import_dataset(dataset, store).digest, store=store, cache=cache)


def in_memory(pixels: UInt8[np.ndarray, "count channels side side"], *, num_classes: int = 0) -> ImageSet:
    """Images as they are, each of a random class if there are classes."""
    count, channels, resolution, _ = pixels.shape
    manifest = DatasetManifest(
        digest="0" * 64,
        num_images=count,
        channels=channels,
        resolution=resolution,
        classes=tuple(map(str, range(num_classes))) if num_classes else None,
        labels=None,
        sigma_data=0.5,
        shards=(),
    )
    labels = np.random.default_rng(0).integers(num_classes, size=(count,)) if num_classes else None
    return ImageSet(manifest, shards=[pixels], labels=labels)


def random_images(*, count: int, resolution: int, channels: int = 3, num_classes: int = 0) -> ImageSet:
    """Noise of the right shape."""
    size = (count, channels, resolution, resolution)
    pixels = np.random.default_rng(0).integers(256, size=size, dtype=np.uint8)
    return in_memory(pixels, num_classes=num_classes)
