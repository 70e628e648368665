"""What the runtime costs: checkpoints, tracking, Ray, DDP, starting, and starting again after a kill.

    python -m tests.benchmarks.runtime [PART ...] [--repeats N] [--output docs/benchmarks/runtime.md]

Single parts are only printed. On a machine that is busy with other things the figures are of those.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.benchmarks.runtime.checkpoints import checkpoints
from tests.benchmarks.runtime.engines import engines
from tests.benchmarks.runtime.figures import Section, timed
from tests.benchmarks.runtime.first_step import first_step
from tests.benchmarks.runtime.recovery import recovery
from tests.benchmarks.runtime.report import rendered, section
from tests.benchmarks.runtime.scaling import scaling
from tests.benchmarks.runtime.tracking import tracking

# With how many turns there are unless told otherwise: jobs take longer than steps in this process, and tracking costs
# so little that single turns say nothing of it.
PARTS: Mapping[str, tuple[Callable[[int], Section], int]] = {
    "checkpoints": (checkpoints, 7),
    "tracking": (tracking, 21),
    "engines": (engines, 3),
    "scaling": (scaling, 3),
    "first-step": (first_step, 5),
    "recovery": (recovery, 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.runtime")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, help="turns of each part; default: three to twenty-one")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/runtime.md"))
    options = parser.parse_args()
    if unknown := sorted({*options.parts} - {*PARTS}):
        parser.error(f"no part {unknown[0]}; there are {', '.join(PARTS)}")
    if options.repeats and not options.parts and options.output == parser.get_default("output"):
        parser.error("results of other numbers of turns go elsewhere; give an --output")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    found = []
    for name in options.parts or PARTS:
        measure, usual = PARTS[name]
        with timed(name):
            found.append(measure(options.repeats or usual))
        print(section(found[-1]), flush=True)
    if options.parts:
        return
    page = rendered(found, load=load)
    print(page)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
