"""What the numbers say in words; the words are chosen by the numbers."""

from tests.benchmarks.acceptance.cases import BAND, HIGH, LOW, ORDINARY, WIDE_BAND, Case
from tests.benchmarks.acceptance.outcomes import Outcome, Outcomes, Ratio, baselines, ratio

_ALIKE = 0.05  # of one: about what training DSM again with other noise changes


def conclusions(outcomes: Outcomes) -> list[str]:
    """Two or three sentences for each case, the ones in which consistency does not pay included."""
    return [
        _masked(outcomes, HIGH, "Where DSM is silent above a noise level (A)"),
        _beside(outcomes, HIGH, "symmetric 1/4", "target"),
        _ordinary(outcomes),
        _beside(outcomes, ORDINARY, "symmetric 1/4", "target"),
        _masked(outcomes, BAND, "Where DSM is silent in a band of noise levels (B)"),
        _beside(outcomes, BAND, "symmetric 1/4", "target"),
        _masked(outcomes, WIDE_BAND, "In a wider band (C)"),
        _beside(outcomes, WIDE_BAND, "symmetric 1/4"),
        _masked(outcomes, LOW, "Where DSM is silent below a noise level (D)"),
    ]


def _beside(outcomes: Outcomes, case: Case, *names: str) -> str:
    """What the cheaper terms leave of the same measure, on 1/4 of the batch the default for images."""
    plain = [outcome for outcome in outcomes.values() if outcome.arm.case == case]
    parts = []
    for name in names:
        ours = outcomes[f"{case.name} / {name}"]
        equal_steps, equal_compute = baselines(ours, plain)
        first, second = (ratio(ours, each, case.headline) for each in (equal_steps, equal_compute))
        parts.append(
            f"`{name}` leaves {first} of DSM's error at equal steps ({_verdict(first)}) and {second} at equal compute "
            f"({_verdict(second)}); samples there are {_samples(ours, equal_compute)}"
        )
    return f"{case.name}: {'; '.join(parts)}."


def _masked(outcomes: Outcomes, case: Case, where: str) -> str:
    ours, (equal_steps, equal_compute) = _with_baselines(outcomes, case)
    first, second = ratio(ours, equal_steps, "on_gap"), ratio(ours, equal_compute, "on_gap")
    return (
        f"{where}, `symmetric` leaves {first} of DSM's error there at equal steps ({_verdict(first)}) and {second} at "
        f"equal compute ({_verdict(second)}). Samples at equal steps are {_samples(ours, equal_steps)}; "
        f"at equal compute {_samples(ours, equal_compute)}."
    )


def _ordinary(outcomes: Outcomes) -> str:
    ours, (equal_steps, equal_compute) = _with_baselines(outcomes, ORDINARY)
    first, more = ratio(ours, equal_steps, "on"), ratio(equal_compute, equal_steps, "on")
    violation = ratio(ours, equal_steps, "viol")
    better = "better" if more.high < first.low else "better in the mean" if more.mean < first.mean else "not better"
    return (
        f"With DSM at all noise levels `symmetric` leaves {first} of DSM's error ({_verdict(first)}) and {violation} "
        f"of its inconsistency at equal steps; at equal compute it has {ratio(ours, equal_compute, 'viol')} of DSM's "
        f"inconsistency. The same compute spent on more DSM steps leaves {more} of the error: {better}. Samples "
        f"at equal compute are {_samples(ours, equal_compute)}."
    )


def _with_baselines(outcomes: Outcomes, case: Case) -> tuple[Outcome, tuple[Outcome, Outcome]]:
    ours = outcomes[f"{case.name} / symmetric"]
    return ours, baselines(ours, [outcome for outcome in outcomes.values() if outcome.arm.case == case])


def _samples(ours: Outcome, baseline: Outcome) -> str:
    by_heun, by_ancestral = (_samples_by(measure, ours, baseline) for measure in ("mmd_h", "mmd_s"))
    return f"{by_heun} by Heun's sampler, {by_ancestral} by the ancestral"


def _samples_by(measure: str, ours: Outcome, baseline: Outcome) -> str:
    """Counted by seed: the squared MMD of a seed is noisy and may be negative, so its ratios mean little.

    All of six agree by chance in 3 % of cases; that five of them do would be a coin's word in 22 %.
    """
    pairs = list(zip(ours.measured[measure], baseline.measured[measure], strict=True))
    lower = sum(a < b for a, b in pairs)
    word = "better" if lower == len(pairs) else "worse" if not lower else "not clearly different"
    means = f"{ours.mean(measure):.4f} against {baseline.mean(measure):.4f}"
    return f"{word} ({means}, lower for {lower} of {len(pairs)} seeds)"


def _verdict(change: Ratio) -> str:
    if change.high < 1 - _ALIKE:
        return "lower for every seed"
    if change.low > 1 + _ALIKE:
        return "higher for every seed"
    if abs(change.mean - 1) <= _ALIKE:
        return "no difference"
    return f"{'lower' if change.mean < 1 else 'higher'} in the mean, but not by {_ALIKE:.0%} for every seed"
