"""In which order training sees the images: a function of the seed and of the number of images seen, nothing else."""

from functools import lru_cache

import numpy as np
from jaxtyping import Int64

_DOMAIN = 0x6F72646572  # "order": keeps these draws apart from other uses of the same seed


def sample_order(seed: int, *, first: int, count: int, num_images: int) -> Int64[np.ndarray, "count"]:
    """The data set's indices of the training images number `first` to `first + count - 1`, counted from 0.

    Every epoch visits each image once, in an order of its own. Training images have one numbering for all workers, so
    that neither their number nor an interruption changes what is seen.
    """
    parts = [np.empty(0, dtype=np.int64)]
    position, end = first, first + count
    while position < end:
        epoch, offset = divmod(position, num_images)
        parts.append(_permutation(seed, epoch, num_images)[offset : offset + end - position])
        position += len(parts[-1])
    return np.concatenate(parts)


@lru_cache(maxsize=2)  # a batch may reach from one epoch into the next
def _permutation(seed: int, epoch: int, num_images: int) -> Int64[np.ndarray, "num_images"]:
    # Sorted raw draws, not Generator.permutation: NumPy promises the former, and not the latter, for all its versions.
    bits = np.random.Philox(np.random.SeedSequence([_DOMAIN, seed, epoch]))
    return np.argsort(bits.random_raw(num_images), kind="stable").astype(np.int64, copy=False)
