"""Run the acceptance experiment: train every arm, check every line, write the report.

    python -m tests.benchmarks.acceptance [--output docs/benchmarks]

Ends with 1 if a line fails. `--shorten 50` takes a fiftieth of the steps: to try the command, not to accept anything.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.acceptance.cases import ARMS, Arm
from tests.benchmarks.acceptance.lines import checked
from tests.benchmarks.acceptance.outcomes import Outcome, Outcomes, outcomes_of
from tests.benchmarks.acceptance.plot import draw
from tests.benchmarks.acceptance.report import rendered
from tests.benchmarks.acceptance.training import BATCH


def main() -> int:
    options = _options()
    begin = time.monotonic()
    arms = [replace(arm, steps=arm.steps // options.shorten) for arm in ARMS]
    outcomes = _run(arms, seeds=range(options.seeds), processes=options.processes)
    lines = checked(outcomes)
    for line in lines:
        print(f"{'pass' if line.passed else 'FAIL'}  ({line.number}) {line.claim}: {line.observed}")
    minutes = (time.monotonic() - begin) / 60
    options.output.mkdir(parents=True, exist_ok=True)
    draw(outcomes, options.output / "acceptance.png")
    report = rendered(outcomes, lines, batch=BATCH, minutes=minutes)
    (options.output / "acceptance.md").write_text(report, encoding="utf-8")
    failed = sum(not line.passed for line in lines)
    print(
        f"{len(lines) - failed} of {len(lines)} lines pass, {minutes:.1f} minutes; see {options.output}/acceptance.md"
    )
    return 1 if failed else 0


def _run(arms: Sequence[Arm], *, seeds: Sequence[int], processes: int) -> Outcomes:
    """All outcomes, in the order of `arms`, however they were completed."""
    found: dict[str, Outcome] = {}
    for outcome in outcomes_of(arms, seeds, processes=processes):
        found[outcome.arm.key] = outcome
        headline = outcome.arm.case.headline
        print(
            f"{len(found):2}/{len(arms)}  {outcome.arm.key:<34} {outcome.cpu_seconds:5.1f} s of CPU  "
            f"{headline} {outcome.mean(headline):.4f}",
            flush=True,
        )
    return {arm.key: found[arm.key] for arm in arms}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.acceptance")
    parser.add_argument(
        "--output", type=Path, default=Path("docs/benchmarks"), help="folder for acceptance.md and .png"
    )
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    parser.add_argument("--shorten", type=int, default=1, help="divide all numbers of steps: to try the command")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds: spreads take two or more")
    if options.shorten > 1 and options.output == parser.get_default("output"):
        parser.error("--shorten: results of no meaning go elsewhere; give an --output")
    return options


if __name__ == "__main__":
    sys.exit(main())
