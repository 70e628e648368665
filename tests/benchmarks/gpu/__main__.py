"""What a GPU does with the product: training in each precision, a checkpoint beside it, sampling.

    python -m tests.benchmarks.gpu [PART ...] [--images 50000] [--output docs/benchmarks/gpu.md]

A PART is `training`, `checkpoints`, `sampling`, or one row of the first: `cifar10-uncond/bf16/compiled`. Long:
compilation takes minutes for each network. Without a GPU this says so and ends.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from tests.benchmarks.gpu.checkpoints import stalls
from tests.benchmarks.gpu.effort import Effort
from tests.benchmarks.gpu.report import Results, page
from tests.benchmarks.gpu.sampling import drawn
from tests.benchmarks.gpu.training import PRECISIONS, SUBJECTS, Subject, ceiling, measured
from tests.benchmarks.runtime.figures import timed

ROWS: dict[str, tuple[Subject, str, bool]] = {
    f"{subject.name}/{precision}/{'compiled' if compiled else 'as-written'}": (subject, precision, compiled)
    for subject in SUBJECTS
    for precision in PRECISIONS
    for compiled in ([False, True] if precision == "bf16" else [False])
}
PARTS = ("training", "checkpoints", "sampling")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of: {', '.join([*PARTS, *ROWS])}")
    parser.add_argument("--images", type=int, default=50_000, help="how many to draw")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/gpu.md"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # the tests' own: does it run at all
    options = parser.parse_args()
    if unknown := sorted({*options.parts} - {*PARTS, *ROWS}):
        parser.error(f"no part {unknown[0]}; there are {', '.join([*PARTS, *ROWS])}")
    if (options.tiny or options.parts) and options.output == parser.get_default("output"):
        parser.error("results of a part, or of no meaning, go elsewhere; give an --output")
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU: skipped")
        return
    results, effort = Results(), Effort(torch.device(options.device), options.tiny)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for name, measure in _plan(options.parts or PARTS, effort, results, images=options.images):
        with timed(name):
            measure()
        options.output.write_text(page(results), encoding="utf-8")
    print(page(results))


def _plan(
    parts: Sequence[str], effort: Effort, results: Results, *, images: int
) -> list[tuple[str, Callable[[], None]]]:
    """What is done, in the order asked for; each puts what it finds into `results`."""

    def train(subject: Subject, precision: str, compiled: bool) -> None:
        if precision not in results.ceilings:
            results.ceilings[precision] = ceiling(precision, effort)
        flops = next((each.flops for each in results.training if each.subject == subject), None)
        results.training.append(measured(subject, precision, compiled=compiled, flops=flops, effort=effort))

    def checkpoint() -> None:
        results.checkpoints = stalls(effort)

    def draw() -> None:
        results.sampling.append(drawn("bf16", num_images=images, effort=effort))

    done: dict[str, Callable[[], None]] = {name: partial(train, *row) for name, row in ROWS.items()}
    done |= {"checkpoints": checkpoint, "sampling": draw}
    names = [name for part in parts for name in (ROWS if part == "training" else [part])]
    return [(name, done[name]) for name in names]


if __name__ == "__main__":
    main()
