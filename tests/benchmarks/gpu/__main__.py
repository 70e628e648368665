"""What a GPU does with the product: training in each precision, a checkpoint beside it, sampling.

    python -m tests.benchmarks.gpu [PART ...] [--images 50000] [--output docs/benchmarks/gpu.md]

A PART is `training`, `checkpoints`, `sampling`, or one row of the first: `cifar10-uncond/bf16/compiled`. Minutes: most
go to compilation. Without a GPU this says so and ends.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.benchmarks.gpu.checkpoints import stalls
from tests.benchmarks.gpu.effort import Effort
from tests.benchmarks.gpu.report import checkpoints_section, page, row_of, sampling_section, training_section
from tests.benchmarks.gpu.sampling import drawn
from tests.benchmarks.gpu.training import PRECISIONS, SUBJECTS, Measured, Subject, ceiling, flops_of_step, measured

ROWS: dict[str, tuple[Subject, str, bool]] = {
    f"{subject.preset}/{precision}/{'compiled' if compiled else 'as-written'}": (subject, precision, compiled)
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
    effort = Effort(torch.device(options.device), options.tiny)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    sections: list[str] = []
    for each in _sections({*(options.parts or PARTS)}, effort, images=options.images):
        sections.append(each)
        options.output.write_text(page(sections), encoding="utf-8")
        print(each, flush=True)


def _sections(parts: set[str], effort: Effort, *, images: int) -> Iterator[str]:
    if rows := [row for name, row in ROWS.items() if name in parts or "training" in parts]:
        yield _training(rows, effort)
    if "checkpoints" in parts:
        yield checkpoints_section(*stalls(effort))
    if "sampling" in parts:
        yield sampling_section(
            [drawn("bf16", compiled=compiled, num_images=images, effort=effort) for compiled in [True]]
        )


def _training(rows: list[tuple[Subject, str, bool]], effort: Effort) -> str:
    ceilings = {precision: ceiling(precision, effort) for precision in {precision: None for _, precision, _ in rows}}
    flops: dict[Subject, int] = {}
    found: list[Measured] = []
    for subject, precision, compiled in rows:
        if subject not in flops:
            flops[subject] = flops_of_step(subject, effort)
        found.append(measured(subject, precision, compiled=compiled, flops=flops[subject], effort=effort))
        print(" | ".join(row_of(found[-1], ceilings[precision])), flush=True)
    return training_section(found, ceilings)


if __name__ == "__main__":
    main()
