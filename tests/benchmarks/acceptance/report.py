"""The results as Markdown: settings, acceptance lines, one table of measures and one of ratios for each case."""

from collections.abc import Iterable, Sequence
from itertools import chain

from tests.benchmarks import hardware
from tests.benchmarks.acceptance.cases import CASES, Case
from tests.benchmarks.acceptance.conclusions import conclusions
from tests.benchmarks.acceptance.lines import Line
from tests.benchmarks.acceptance.outcomes import Outcome, Outcomes, baselines, ratio

_MEASURES = ("on_gap", "on", "hot", "drift_h", "drift_s", "viol", "sw2_h", "sw2_s", "mmd_h", "mmd_s")

_PREAMBLE = """\
# Acceptance: what the consistency loss gains, and what it does not

Written by `python -m tests.benchmarks.acceptance`. {hardware} {seeds} seeds in {minutes:.1f} minutes, \
{cpu_minutes:.1f} minutes of CPU time.

The product's own code (`Objective`, `Randomness`, `Denoiser`, the MLP, the moving average, the samplers) learns eight
Gaussians on a ring, whose denoiser is known in closed form. Linear layers are stacked, so that seeds and cases train at
once, and steps that runs share are computed once. Batch {batch}, fused Adam at 2e-3 with 100 steps of warm-up and
a linear fall over the last 30 %; consistency with weight 1, r ~ U[0, 0.3], one ancestral step, except `paper`, the
released recipe. Measures (`tests/benchmarks/acceptance/measures.py`): errors against the exact denoiser on noised data
(`on`; `on_gap`, where DSM is silent), on data with 1.5 times the noise that the network is told (`hot`) and along its
own trajectories (`drift_*`; `_h` Heun, `_s` ancestral); inconsistency (`viol`); distance of samples to the data
(`sw2_*`, sliced Wasserstein; `mmd_*`). Lower is better for all.

![error by arm](acceptance.png)
"""
_HOW_TO_READ = """\
Tables: mean ± standard deviation over the seeds; evaluations are those with / without gradient; F is the cost of one
forward pass for one image, counted by hooks (a backward pass counts two); compute is that of the whole run divided by
that of the shortest DSM run of the case. Ratios are paired by seed: geometric mean [least, greatest]; those of `mmd_s`
are of the means, since single values may be negative. The DSM run of a cost is the shortest that costs no less.
"One sample squared" looks like the consistency loss but is not: it measures the variance of the prediction.
"""


def rendered(outcomes: Outcomes, lines: Sequence[Line], *, batch: int, minutes: float) -> str:
    cpu_minutes = sum(outcome.cpu_seconds for outcome in outcomes.values()) / 60
    seeds = len(next(iter(outcomes.values())).measured["on"])
    preamble = _PREAMBLE.format(
        hardware=hardware.described(), seeds=seeds, minutes=minutes, cpu_minutes=cpu_minutes, batch=batch
    )
    parts = [preamble, "## In short\n", *(f"- {each}" for each in conclusions(outcomes)), ""]
    parts += ["## Acceptance lines\n", *_acceptance_table(lines), "", _HOW_TO_READ]
    return "\n".join(chain(parts, *(_case_section(case, outcomes) for case in CASES)))


def _acceptance_table(lines: Sequence[Line]) -> list[str]:
    cells = [[str(line.number), line.claim, line.observed, "pass" if line.passed else "**FAIL**"] for line in lines]
    return _table(["line", "claim", "observed", ""], cells)


def _case_section(case: Case, outcomes: Outcomes) -> Iterable[str]:
    of_case = [outcome for outcome in outcomes.values() if outcome.arm.case == case]
    measures = [name for name in _MEASURES if name in of_case[0].measured]
    least = min(outcome.compute for outcome in of_case if outcome.arm.term is None)
    yield f"## {case.heading}\n"
    yield from _table(
        ["arm", "steps", "evaluations", "F", "compute", *measures],
        [
            [*_arm_cells(outcome, least), *(_value(outcome.mean(name), outcome.spread(name)) for name in measures)]
            for outcome in of_case
        ],
    )
    yield ""
    headline = case.headline
    yield from _table(
        ["ratio to DSM", f"{headline}, equal steps", "the DSM run of its cost", headline, "viol", "sw2_s", "mmd_s"],
        [_ratio_cells(outcome, of_case) for outcome in of_case if outcome.arm.term],
    )
    yield ""


def _arm_cells(outcome: Outcome, least_compute: float) -> list[str]:
    evaluations = outcome.evaluations
    counts = f"{evaluations.with_gradient:g} / {evaluations.without:g}"
    compute = f"{outcome.compute / least_compute:.2f}"
    return [outcome.arm.name, str(outcome.arm.steps), counts, f"{evaluations.cost:g}", compute]


def _ratio_cells(outcome: Outcome, of_case: Sequence[Outcome]) -> list[str]:
    equal_steps, equal_compute = baselines(outcome, of_case)
    paired = [str(ratio(outcome, equal_compute, name)) for name in (outcome.arm.case.headline, "viol", "sw2_s")]
    mmd = outcome.mean("mmd_s") / equal_compute.mean("mmd_s")
    which = f"{equal_compute.arm.name} ({equal_compute.compute / outcome.compute:.2f} of its compute)"
    first = ratio(outcome, equal_steps, outcome.arm.case.headline)
    return [outcome.arm.name, str(first), which, *paired, f"{mmd:.2f}"]


def _value(mean: float, spread: float) -> str:
    return f"{mean:.3g} ± {spread:.1g}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(header), _row(["---"] * len(header)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
