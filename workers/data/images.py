"""Image sets in the object store: what they consist of, and their images by number."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from workers.contract.data import DatasetManifest, Digest
from workers.contract.keys import MANIFEST, dataset_folder
from workers.data.cache import cached
from workers.data.errors import DatasetError
from workers.storage import ObjectStore
from workers.storage.ahead import STORE_STREAMS

_LABEL = "<i4"


class ImageSet:
    """The images and labels of a data set by their index; shards are memory-mapped, not loaded."""

    def __init__(
        self,
        manifest: DatasetManifest,
        *,
        shards: Sequence[UInt8[np.ndarray, "num_images channels side side"]],
        labels: Int64[np.ndarray, "num_images"] | None,
    ) -> None:
        self.manifest = manifest
        self._shards = shards
        self._starts = np.cumsum([0] + [len(shard) for shard in shards])
        self._labels = labels

    @classmethod
    def open(cls, digest: Digest, *, store: ObjectStore, cache: Path) -> Self:
        """Bring the data set to a folder of this machine, or check the copy that is there, and map it.

        Raises:
            DatasetError: if the store does not hold the data set, or not all of it.
        """
        source, folder = dataset_folder(digest), cache / digest
        try:
            manifest = read_dataset_manifest(store, digest)
        except FileNotFoundError:
            raise DatasetError(f"no data set {digest} in the store; import it first") from None
        shape = (manifest.channels, manifest.resolution, manifest.resolution)
        with ThreadPoolExecutor(STORE_STREAMS) as pool:
            paths = pool.map(lambda shard: cached(shard, store, source=source, folder=folder), manifest.shards)
            shards = [
                np.memmap(path, mode="r", shape=(shard.num_images, *shape))
                for path, shard in zip(paths, manifest.shards, strict=True)
            ]
        labels = None
        if manifest.labels:
            path = cached(manifest.labels, store, source=source, folder=folder)
            labels = np.fromfile(path, dtype=_LABEL).astype(np.int64)
        return cls(manifest, shards=shards, labels=labels)

    def __len__(self) -> int:
        return self.manifest.num_images

    def images(self, indices: Int64[np.ndarray, "batch"]) -> UInt8[Tensor, "batch channels side side"]:
        """A copy of these images, in the order asked for."""
        self._check(indices)
        batch = np.empty((len(indices), *self._shards[0].shape[1:]), dtype=np.uint8)
        holders = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(holders):
            rows = holders == number
            batch[rows] = self._shards[number][indices[rows] - self._starts[number]]
        return torch.from_numpy(batch)

    def labels(self, indices: Int64[np.ndarray, "batch"]) -> Int64[Tensor, "batch"] | None:
        """The class of each of these images; None if the data set has no labels."""
        self._check(indices)
        return None if self._labels is None else torch.from_numpy(self._labels[indices])

    def _check(self, indices: Int64[np.ndarray, "batch"]) -> None:
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"images are numbered 0 to {len(self) - 1}")


def read_dataset_manifest(store: ObjectStore, digest: Digest) -> DatasetManifest:
    """What an image set consists of; raises FileNotFoundError if the store has none of this digest."""
    return DatasetManifest.model_validate_json(store.get(dataset_folder(digest) + MANIFEST))


def stored_images(
    manifest: DatasetManifest, indices: Int64[np.ndarray, "batch"], store: ObjectStore
) -> UInt8[Tensor, "batch channels side side"]:
    """A few images straight from the store, where a copy of all would be too much."""
    shape = (manifest.channels, manifest.resolution, manifest.resolution)
    starts = np.cumsum([0] + [shard.num_images for shard in manifest.shards])

    def pixels(index: int) -> bytes:
        number = int(np.searchsorted(starts, index, side="right")) - 1
        key = dataset_folder(manifest.digest) + manifest.shards[number].name
        return store.part(key, (index - int(starts[number])) * math.prod(shape), math.prod(shape))

    with ThreadPoolExecutor(STORE_STREAMS) as pool:
        found = bytearray().join(pool.map(pixels, indices.tolist()))
    return torch.from_numpy(np.frombuffer(found, dtype=np.uint8).reshape(len(indices), *shape))


def stored_labels(manifest: DatasetManifest, store: ObjectStore) -> Int64[np.ndarray, "num_images"] | None:
    """The class of each image, straight from the store; None if the data set has no labels."""
    if manifest.labels is None:
        return None
    data = store.get(dataset_folder(manifest.digest) + manifest.labels.name)
    return np.frombuffer(data, dtype=_LABEL).astype(np.int64)
