"""Pixels on their way to the store: cut into shards on disk, hashed and counted as they pass."""

import math
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from workers.contract.data import Shard

SHARD_BYTES = 64 << 20


class ShardWriter:
    """Takes images of one shape, one after the other; holds one shard in memory and the others in a folder."""

    def __init__(self, folder: Path, *, shard_bytes: int) -> None:
        self.shards: list[Shard] = []
        self.num_images = 0
        self.folder = folder
        self._shard_bytes = shard_bytes
        self._waiting = bytearray()
        self._sha256 = sha256()
        self._histogram = np.zeros(256, dtype=np.int64)

    @property
    def pixels_sha256(self) -> str:
        """Of all pixels so far, wherever they were cut."""
        return self._sha256.hexdigest()

    @property
    def sigma_data(self) -> float:
        """Standard deviation of all pixels scaled to [-1, 1], from sums of whole numbers: the same on every machine."""
        counts = self._histogram.tolist()
        count = sum(counts)
        total = sum(value * times for value, times in enumerate(counts))
        squares = sum(value * value * times for value, times in enumerate(counts))
        return math.sqrt(count * squares - total * total) / count / 127.5

    def append(self, pixels: UInt8[np.ndarray, "channels side side"]) -> None:
        if len(self._waiting) + pixels.nbytes > self._shard_bytes:
            self.flush()
        self._waiting += pixels.data
        self._sha256.update(pixels.data)
        self._histogram += np.bincount(pixels.ravel(), minlength=256)
        self.num_images += 1

    def flush(self) -> None:
        """Write the images that wait as a shard; call it once more at the end."""
        if not self._waiting:
            return
        name = f"shard-{len(self.shards):05d}.u8"
        (self.folder / name).write_bytes(self._waiting)
        num_images = self.num_images - sum(shard.num_images for shard in self.shards)
        self.shards.append(Shard(name=name, num_images=num_images, sha256=sha256(self._waiting).hexdigest()))
        self._waiting.clear()
