"""The acceptance lines: claims, each with its limit, and what was observed."""

from dataclasses import dataclass

from tests.benchmarks.acceptance import cases, unbiasedness
from tests.benchmarks.acceptance.cases import HIGH, ORDINARY, Arm
from tests.benchmarks.acceptance.outcomes import Outcomes, evaluations_of, ratio
from workers.contract.consistency import Consistency

_ONE_STEP_BIAS, _BIAS_MARGIN, _NO_BIAS = 3.4e-3, 0.6e-3, 1e-4
_EVALUATIONS: tuple[tuple[str, Consistency, tuple[float, float]], ...] = (
    ("symmetric", cases.SYMMETRIC, (3, 0)),
    ("symmetric 1/4", cases.QUARTER, (1.5, 0)),
    ("asymmetric", cases.ASYMMETRIC, (2, 1)),
    ("target", cases.TARGET, (1, 1)),
    ("antithetic4", cases.ANTITHETIC, (5, 0)),
    ("paper", cases.PAPER, (3, 8)),
)


@dataclass(frozen=True, slots=True)
class Line:
    """Lines of one `number` belong together."""

    number: int
    claim: str
    observed: str
    passed: bool


def checked(outcomes: Outcomes) -> list[Line]:
    """All lines, in the order of their numbers."""
    lines = [*_propagation(outcomes), *_samples(outcomes), *_no_harm(outcomes), *_unbiasedness(), *_evaluations()]
    return sorted(lines, key=lambda line: line.number)


def _propagation(outcomes: Outcomes) -> list[Line]:
    """1 and 3: knowledge reaches the noise levels without DSM, and the wrong estimator brings none there."""
    lines = []
    baseline = outcomes[f"{HIGH.name} / DSM 9000"]
    for name in ("symmetric", "symmetric 1/4"):
        ours = outcomes[f"{HIGH.name} / {name}"]
        worst, against = max(ours.measured["on_gap"]), ratio(ours, baseline, "on_gap")
        claim = f"A, {name}: on_gap <= 0.06 for every seed"
        lines.append(Line(1, claim, f"mean {ours.mean('on_gap'):.4f}, worst {worst:.4f}", worst <= 0.06))
        claim = f"A, {name}: on_gap <= 0.25 of DSM with three times the steps, for every seed"
        lines.append(Line(1, claim, str(against), against.high <= 0.25))
    wrong = outcomes[f"{HIGH.name} / one sample squared (wrong)"]
    least = min(wrong.measured["on_gap"])
    observed = f"mean {wrong.mean('on_gap'):.3f}, least {least:.3f}"
    lines.append(Line(3, "A, one sample squared: on_gap >= 0.4 for every seed", observed, least >= 0.4))
    return lines


def _samples(outcomes: Outcomes) -> list[Line]:
    ours, baseline = outcomes[f"{HIGH.name} / symmetric"], outcomes[f"{HIGH.name} / DSM 9000"]
    of_means = ours.mean("mmd_h") / baseline.mean("mmd_h")
    claim = "A, symmetric: mmd_h <= 0.6 of DSM at equal compute, in the mean"
    return [
        Line(2, claim, f"{ours.mean('mmd_h'):.4f} / {baseline.mean('mmd_h'):.4f} = {of_means:.2f}", of_means <= 0.6)
    ]


def _no_harm(outcomes: Outcomes) -> list[Line]:
    lines = []
    baseline = outcomes[f"{ORDINARY.name} / DSM 3000"]
    for name in ("symmetric", "symmetric 1/4"):
        for measured, limit in (("on", 1.05), ("viol", 0.9)):
            against = ratio(outcomes[f"{ORDINARY.name} / {name}"], baseline, measured)
            claim = f"{ORDINARY.name}, {name}: {measured} <= {limit} of DSM at equal steps, geometric mean over seeds"
            lines.append(Line(4, claim, str(against), against.mean <= limit))
    return lines


def _unbiasedness() -> list[Line]:
    """At the exact denoiser, w(t) times the mean product of two gaps, summed over both coordinates."""
    step, exact, trap = (
        unbiasedness.one_ancestral_step(),
        unbiasedness.exact_kernel(),
        unbiasedness.antithetic_product(),
    )
    expected = f"{_ONE_STEP_BIAS} ± {_BIAS_MARGIN}"
    return [
        Line(5, f"exact denoiser, one ancestral step: {expected}", str(step), _is_one_step_bias(step.value)),
        Line(5, f"exact denoiser, exact reverse kernel: below {_NO_BIAS}", str(exact), abs(exact.value) < _NO_BIAS),
        Line(
            5,
            f"the product of an antithetic pair is negative, far from {expected}",
            str(trap),
            trap.value < 0 and not _is_one_step_bias(trap.value),
        ),
    ]


def _is_one_step_bias(value: float) -> bool:
    return abs(value - _ONE_STEP_BIAS) <= _BIAS_MARGIN


def _evaluations() -> list[Line]:
    lines = []
    for name, term, expected in _EVALUATIONS:
        found = evaluations_of(Arm(HIGH, name, 1, term))
        claim = f"{name}: {expected[0]:g} evaluations an image with gradient, {expected[1]:g} without"
        observed = (found.with_gradient, found.without)
        lines.append(Line(6, claim, f"{observed[0]:g} and {observed[1]:g}", observed == expected))
    return lines
