"""How fast training images come out of memory-mapped shards.

    python -m tests.benchmarks.reading [--output docs/benchmarks/reading.md]

Image sets of noise are imported as any are; batches of random images are then read as training reads them, on one
thread. Opening a set checks every byte of the node's copy, so after it all lies in the memory of the machine, if it
fits there.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from tests.benchmarks import hardware
from workers.contract.data import NpzDataset
from workers.data import ImageSet
from workers.data.importer import import_dataset
from workers.storage.local import LocalStore
from workers.training.feed import Feed

SETS = {"50,000 of 32x32, colour": (50_000, 32), "30,000 of 64x64, colour": (30_000, 64)}
BATCH, BATCHES, REPEATS = 512, 40, 5
_TRAINED_PER_SECOND = 594  # 32x32 by one H100, of docs/benchmarks/gpu.md


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    page = "\n".join(_page())
    options.output.write_text(page + "\n", encoding="utf-8")
    print(page)


def _page() -> Iterator[str]:
    yield "# How fast training images come\n"
    yield f"`make bench-reading`. {hardware.described()} One thread; batches of {BATCH} random images as uint8,"
    yield f"the median of {REPEATS} times {BATCHES} batches.\n"
    yield "| image set | opened and checked in | images a second | MB/s |"
    yield "|---|---|---|---|"
    for name, (count, resolution) in SETS.items():
        opened, rate = _measured(count, resolution)
        yield f"| {name} | {opened:.2f} s | {rate:,.0f} | {rate * 3 * resolution**2 / 1e6:,.0f} |"
    yield f"\nOne H100 trains on {_TRAINED_PER_SECOND} images of 32x32 a second ([measured](gpu.md)). Sets that are"
    yield "small beside a GPU's memory lie there whole; others are read by the training process, without workers of its"
    yield "own. Sets larger than the machine's memory come as fast as its disk is, which was not measured."


def _measured(count: int, resolution: int) -> tuple[float, float]:
    """Seconds to open it, and images a second out of its files."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        store, cache = LocalStore(place / "store"), place / "cache"
        pixels = np.random.default_rng(0).integers(0, 256, (count, resolution, resolution, 3), dtype=np.uint8)
        np.savez(place / "images.npz", images=pixels)
        dataset = NpzDataset(kind="npz", path=str(place / "images.npz"), resolution=resolution, channels=3)
        digest = import_dataset(dataset, store).digest
        ImageSet.open(digest, store=store, cache=cache)  # brings it here
        begin = time.perf_counter()
        images = ImageSet.open(digest, store=store, cache=cache)
        opened = time.perf_counter() - begin
        return opened, _rate(Feed(images, torch.device("cpu")), count)


def _rate(feed: Feed, count: int) -> float:
    generator = np.random.default_rng(1)
    feed.batch(np.arange(BATCH))
    return median(_once(feed, generator, count) for _ in range(REPEATS))


def _once(feed: Feed, generator: np.random.Generator, count: int) -> float:
    chosen = [generator.integers(0, count, BATCH) for _ in range(BATCHES)]
    begin = time.perf_counter()
    for indices in chosen:
        feed.batch(indices)
    return BATCH * BATCHES / (time.perf_counter() - begin)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.reading")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/reading.md"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
