"""What a thousand images cost: to draw, to measure; and how much of drawing is the network itself.

    python -m tests.benchmarks.drawing [--images 64] [--output docs/benchmarks/drawing.md]

On one CPU thread, in CPU time, with the networks of the presets that are meant for CPUs, untrained: what they draw
costs the same. Drawing is timed beside as many bare evaluations of the network, in turn, so their ratio holds on a
busy machine.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import torch

from tests.benchmarks import hardware
from workers.contract.data import DatasetManifest
from workers.contract.features import Lite0
from workers.contract.presets import PRESETS
from workers.evaluation.distances import frechet_distance, kernel_distance
from workers.evaluation.drift import (
    LEVELS,
    denoising_loss,
    drift_at_images,
    drift_on_own_paths,
    evaluations_at_images,
    evaluations_on_own_paths,
    noises_of,
)
from workers.evaluation.features import open_features
from workers.evaluation.manifolds import precision_recall
from workers.evaluation.memorisation import memorisation
from workers.evaluation.statistics import Statistics
from workers.sampling.drawing import SeededSampler
from workers.training.state import new_denoiser

SIZES = {"fashion16": (16, 1), "own32": (32, 3)}
REPEATS, PASS = 3, 32
_CPU = torch.device("cpu")


def main() -> None:
    options = _options()
    torch.manual_seed(0)
    page = "\n".join(_page(options.images))
    options.output.write_text(page + "\n", encoding="utf-8")
    print(page)


def _page(images: int) -> Iterator[str]:
    yield "# What a thousand images cost to draw and to measure\n"
    yield f"`make bench-drawing`. {hardware.described()} One thread; CPU seconds for 1,000 images, the median of"
    yield f"{REPEATS} runs of {images} images in passes of {PASS}.\n"
    yield "| network | drawn by Heun's 18 steps | of that, bare evaluations | loss and gaps at 12 levels |"
    yield "|---|---|---|---|"
    for name in SIZES:
        yield _drawing_row(name, images)
    sigma_max = PRESETS["own32"].sampler.sigma_max
    of_drift = evaluations_at_images(LEVELS) + evaluations_on_own_paths(LEVELS, sigma_max)
    yield f"\nDrawing takes 35 evaluations of the network an image, loss and gaps {of_drift}: the network bounds both."
    yield "\n| measure | 1,000 beside 1,000 images | 5,000 beside 5,000 |"
    yield "|---|---|---|"
    yield from _measure_rows()
    features = open_features(Lite0(kind="lite0"))
    pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8)
    seconds = _seconds(lambda: features(pixels)) * 1000 / images
    yield f"\nFeatures (`lite0`) of 1,000 images of 32x32 take {seconds:.1f} s, bound by their network, which sees"
    yield "them at 128x128. Those of training images are computed once for an image set. What compares each image"
    yield "with each grows with the square of their number; `frechet_distance` is bound by the eigenvalues of a matrix,"
    yield "which it does not need where there are fewer images than features have dimensions (1,280)."


def _drawing_row(name: str, images: int) -> str:
    resolution, channels = SIZES[name]
    manifest = DatasetManifest(
        digest="0" * 64,
        num_images=images,
        channels=channels,
        resolution=resolution,
        classes=tuple(map(str, range(10))) if PRESETS[name].network.class_conditional else None,
        labels=None,
        sigma_data=0.5,
        shards=(),
    )
    denoiser = new_denoiser(PRESETS[name], manifest).eval().requires_grad_(False)
    classes = tuple(range(10)) if manifest.classes else None
    shape = (channels, resolution, resolution)
    seeded_sampler = SeededSampler(denoiser, PRESETS[name].sampler, shape, classes, _CPU)
    x, sigma = torch.randn(PASS, *shape), torch.ones(PASS)
    conditions = seeded_sampler.conditions(range(PASS))

    def draw() -> None:
        for first in range(0, images, PASS):
            seeded_sampler.draw(range(first, first + PASS))

    @torch.no_grad()
    def bare() -> None:
        for _ in range(35 * (images // PASS)):
            denoiser(x, sigma, conditions)

    def gaps() -> None:
        noises = noises_of(0, range(PASS), x)
        denoising_loss(denoiser, x, conditions, LEVELS, noises)
        drift_at_images(denoiser, x, conditions, LEVELS, noises)
        highest = PRESETS[name].sampler.sigma_max
        drift_on_own_paths(denoiser, conditions, LEVELS, noises, sigma_max=highest)

    pairs = [(_once(draw), _once(bare)) for _ in range(REPEATS)]
    drawn = median(pair[0] for pair in pairs) * 1000 / images
    share = median(pair[1] / pair[0] for pair in pairs)
    return f"| `{name}` | {drawn:.1f} s | {share:.0%} | {_once(gaps) * 1000 / PASS:.0f} s |"


def _measure_rows() -> Iterator[str]:
    sets = {count: (torch.randn(count, 1280), torch.randn(count, 1280)) for count in (1000, 5000)}
    measures: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
        "frechet_distance": lambda a, b: frechet_distance(Statistics.of(a), Statistics.of(b)),
        "kernel_distance": kernel_distance,
        "precision_recall": precision_recall,
        "memorisation": memorisation,
    }
    for name, measure in measures.items():
        cells = [f"{_once(partial(measure, *pair)):.1f} s" for pair in sets.values()]
        yield f"| `{name}` | {' | '.join(cells)} |"


def _seconds(work: Callable[[], object]) -> float:
    return median(_once(work) for _ in range(REPEATS))


def _once(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.drawing")
    parser.add_argument("--images", type=int, default=64, help="to draw in each run; a multiple of 32")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/drawing.md"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
