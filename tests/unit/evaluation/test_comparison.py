"""Two trainings beside each other: at equal images, at equal work, and how sure that is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import stats

from tests.support.findings import evaluation_of
from workers.contract.comparing import Comparison
from workers.contract.curves import is_alike
from workers.contract.evaluation import Evaluation, Measure
from workers.contract.model import Sampler
from workers.contract.records import CheckpointRef
from workers.contract.sampling import ResolvedCheckpoint
from workers.evaluation.comparison import Training, conclusions, metric_curves, pairs
from workers.evaluation.comparison_report import draw_metric_curves, report_html


def evaluation(images_seen: int, value: float, **changes: object) -> Evaluation:
    return evaluation_of(images_seen, **{"measures": {"KD-ENL0": measure([value - 0.5, value, value + 0.5])}} | changes)


def measure(shares: Sequence[float]) -> Measure:
    return Measure(value=float(np.mean(shares)), shares=tuple(shares), standard_error=float(stats.sem(shares)))


def training(job_id: str, values: Mapping[int, float], *, rate: float) -> Training:
    """Two workers; a row of metrics and an evaluation at each of these images."""
    rows = {seen: {"throughput/images_per_second": rate} for seen in values}
    return Training(job_id, 2, rows, [evaluation(seen, value) for seen, value in values.items()])


def measured(job_id: str, of: Mapping[int, Measure], *, rate: float = 10.0) -> Training:
    """The same, with all that was measured of one thing."""
    rows = {seen: {"throughput/images_per_second": rate} for seen in of}
    return Training(job_id, 2, rows, [evaluation(seen, 0.0, measures={"loss": each}) for seen, each in of.items()])


def interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Of their mean difference, as SciPy finds it, to a thousandth of its width."""
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    return pytest.approx(low, abs=1e-3 * (high - low)), pytest.approx(high, abs=1e-3 * (high - low))


JOB = training("job", {100: 9.0, 200: 5.0, 300: 3.0}, rate=10.0)
CONTROL = training("control", {100: 10.0, 200: 7.0, 300: 6.0}, rate=20.0)
LIKE = evaluation(300, 0.0)


def test_work_is_what_all_workers_spend_on_steps() -> None:
    assert JOB.seconds == {0: 0.0, 100: 20.0, 200: 40.0, 300: 60.0}
    assert (JOB.side.worker_seconds, JOB.side.microseconds_per_image) == (60.0, 200_000.0)


def test_they_are_compared_at_equal_images_and_where_the_control_has_had_as_much_work() -> None:
    found = list(pairs(metric_curves(JOB, LIKE), metric_curves(CONTROL, LIKE)))

    assert [(pair.at, pair.images_seen, pair.job, pair.control) for pair in found] == [
        ("images", 100, 9.0, 10.0),
        ("images", 200, 5.0, 7.0),
        ("images", 300, 3.0, 6.0),
        ("seconds", 100, 9.0, 7.0),  # 20 s: the control has seen 200 by then
    ]
    assert found[-1].control_images_seen == pytest.approx(200)


HALF_WAY = math.log(25 / 20) / math.log(30 / 20)  # in the logarithm of the seconds, since learning slows down


def test_between_two_evaluations_the_control_lies_on_a_straight_line_over_the_logarithm_of_its_work() -> None:
    slow = training("slow", {150: 5.0}, rate=12.0)  # 25 s: the control stands half way between 200 and 300

    (pair,) = [pair for pair in pairs(metric_curves(slow, LIKE), metric_curves(CONTROL, LIKE)) if pair.at == "seconds"]

    assert (pair.control_images_seen, pair.control) == (pytest.approx(250), pytest.approx(7 - HALF_WAY))


def test_a_control_whose_measure_falls_with_a_power_of_its_work_hardly_seems_worse_than_it_was() -> None:
    control = training("control", {each: each**-0.5 for each in (200, 300)}, rate=20.0)
    slow = training("slow", {150: 250**-0.5}, rate=12.0)

    (pair,) = [pair for pair in pairs(metric_curves(slow, LIKE), metric_curves(control, LIKE)) if pair.at == "seconds"]

    assert pair.control == pytest.approx(250**-0.5, rel=0.006)  # 1.5 % on the straight line over the seconds


@pytest.mark.parametrize("count", [2, 3, 6, 10, 11, 32, 100])
def test_an_interval_is_of_the_differences_share_by_share(count: int) -> None:
    """What both have in common, the images and their noise, is ten times what they differ by."""
    generator = np.random.default_rng(count)
    common = generator.normal(5, 1, count)
    a, b = common - 0.1 + generator.normal(0, 0.1, count), common + generator.normal(0, 0.1, count)

    (pair,) = pairs(
        metric_curves(measured("a", {300: measure(a)}), LIKE), metric_curves(measured("b", {300: measure(b)}), LIKE)
    )

    assert pair.difference == pytest.approx(np.mean(a - b))
    assert (pair.low, pair.high) == interval(a, b)


def test_blocks_are_shares_of_all_that_was_drawn() -> None:
    a, b = (9.1, 9.6, 8.9), (9.9, 10.6, 9.8)
    ours, theirs = (measured("a", {300: Measure(value=float(np.mean(each)), blocks=each)}) for each in (a, b))

    (pair,) = pairs(metric_curves(ours, LIKE), metric_curves(theirs, LIKE))

    assert (pair.low, pair.high) == interval(a, b)
    assert pair.high is not None
    assert pair.high < 0, "by the errors of both alone it would be no difference"


def test_at_equal_work_shares_lie_on_straight_lines_as_well() -> None:
    generator = np.random.default_rng(0)
    ours, before, after = (generator.normal(mean, 1, 8) for mean in (5, 7, 6))
    slow = measured("slow", {150: measure(ours)}, rate=12.0)  # 25 s: the control stands half way between 200 and 300
    fast = measured("fast", {200: measure(before), 300: measure(after)}, rate=20.0)

    (pair,) = pairs(metric_curves(slow, LIKE), metric_curves(fast, LIKE))

    assert pair.at == "seconds"
    assert (pair.low, pair.high) == interval(ours, before + HALF_WAY * (after - before))


@pytest.mark.parametrize(
    "other",
    [
        Measure(value=1.0),
        Measure(value=1.0, blocks=(1.0,)),
        Measure(value=1.0, shares=(1.0, 1.0, 1.0)),
    ],
)
def test_without_shares_of_both_there_is_no_interval(other: Measure) -> None:
    ours, theirs = measured("a", {300: measure([1.0, 2.0])}), measured("b", {300: other})

    (pair,) = pairs(metric_curves(ours, LIKE), metric_curves(theirs, LIKE))

    assert (pair.difference, pair.low, pair.high) == (0.5, None, None)
    assert "how sure" in conclusions(ours.side, theirs.side, [pair])[1]


def test_so_many_intervals_hold_the_difference_as_they_promise() -> None:
    """Of pairs, and, where the two have nothing in common, as well."""
    generator, held = np.random.default_rng(0), []
    for number in range(1000):
        common = generator.normal(0, 1, 32) * (number % 2)
        a, b = (common + generator.normal(mean, 0.3, 32) for mean in (1.0, 0.0))
        (pair,) = pairs(
            metric_curves(measured("a", {1: measure(a)}), LIKE), metric_curves(measured("b", {1: measure(b)}), LIKE)
        )
        assert pair.low is not None
        assert pair.high is not None
        held.append(pair.low <= 1.0 <= pair.high)

    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_what_a_fork_costs_begins_where_it_began() -> None:
    origin = CheckpointRef(job_id="parent", images_seen=100, attempt=1)

    fork = Training("fork", 2, {200: {"throughput/images_per_second": 10.0}}, [], origin)

    assert fork.seconds == {100: 0.0, 200: 20.0}
    assert fork.side.microseconds_per_image == 200_000.0


@pytest.mark.parametrize(
    "changes",
    [
        {"num_images": 51},
        {"features_fingerprint": "c" * 64},
        {"reference": "c" * 64},
        {"sampler": Sampler(steps=5)},
        {"labels": "as_images"},
        {"classes": (8,)},
        {"checkpoint": ResolvedCheckpoint(job_id="trained", images_seen=300, attempt=1, average="network")},
    ],
)
def test_only_what_was_evaluated_alike_is_compared(changes: dict[str, object]) -> None:
    other = evaluation(300, 1.0, **changes)

    assert not is_alike(other, LIKE)
    assert metric_curves(Training("job", 1, {}, [other]), LIKE) == {}


LOSSES = {name: measure([1.0, 2.0]) for name in ("KD-ENL0", "loss", "gap_on_own_paths", "loss_at_held_out")}
AT_ONE = {"sigma": 1.0, "mean": 0.1, "standard_error": 0.01, "count": 256}


@pytest.mark.parametrize(
    ("changes", "compared"),
    [
        ({}, ["KD-ENL0", "loss", "gap_on_own_paths", "loss_at_held_out"]),
        ({"held_out": "e" * 64}, ["KD-ENL0", "loss", "gap_on_own_paths"]),
        ({"drift_images": 100}, ["KD-ENL0"]),
        ({"held_out": None, "drift_images": None}, ["KD-ENL0"]),
        ({"weighting": {"kind": "edm", "sigma_data": 0.25}}, ["KD-ENL0"]),
        ({"weighting": {"kind": "ve"}}, ["KD-ENL0"]),
        ({"weighting": None}, ["KD-ENL0"]),
        ({"curves": {"loss": [AT_ONE, AT_ONE | {"sigma": 2.0}]}}, ["KD-ENL0", "gap_on_own_paths", "loss_at_held_out"]),
    ],
    ids=[
        "the same",
        "other held-out images",
        "fewer images",
        "an old record, which does not say",
        "weighted by another sigma_data",
        "weighted by another preconditioning",
        "an old record, which does not say its weights",
        "at more noise levels",
    ],
)
def test_losses_and_gaps_that_are_of_something_else_are_not_compared(
    changes: dict[str, object], compared: list[str]
) -> None:
    known = {"held_out": "d" * 64, "drift_images": 256, "measures": LOSSES, "curves": {"loss": [AT_ONE]}}
    known["weighting"] = {"kind": "edm", "sigma_data": 0.5}
    ours, theirs = (Training("job", 1, {}, [evaluation(300, 0.0, **known | how)]) for how in ({}, changes))

    assert [pair.measure for pair in pairs(metric_curves(ours, LIKE), metric_curves(theirs, LIKE))] == compared


def test_old_records_compare_with_each_other() -> None:
    old = evaluation(300, 0.0, measures=LOSSES).model_dump(exclude={"held_out", "drift_images", "weighting"})
    ours, theirs = (Training(job, 1, {}, [Evaluation.model_validate(old)]) for job in ("a", "b"))

    assert [pair.measure for pair in pairs(metric_curves(ours, LIKE), metric_curves(theirs, LIKE))] == [*LOSSES]


def test_a_course_is_of_the_images_that_were_looked_at_last() -> None:
    """Whatever else was found of the same checkpoint, or of another one, without them."""
    first, then = ({"held_out": digest * 64, "drift_images": 256} for digest in "de")
    plain = {name: LOSSES[name] for name in ("KD-ENL0", "loss")}
    looked = [
        evaluation(100, 0.0, measures=LOSSES, **first),
        evaluation(200, 0.0, measures=LOSSES, **then),
        evaluation(200, 0.0, measures=plain, drift_images=256),
        evaluation(300, 0.0, measures=LOSSES, **then),
    ]

    found = metric_curves(Training("job", 1, {}, looked), LIKE)

    assert {name: curve.images for name, curve in found.items()} == {
        "KD-ENL0": (100, 200, 300),
        "loss": (100, 200, 300),
        "gap_on_own_paths": (100, 200, 300),
        "loss_at_held_out": (200, 300),
    }


def test_the_words_are_chosen_by_the_numbers() -> None:
    found = list(pairs(metric_curves(JOB, LIKE), metric_curves(CONTROL, LIKE)))

    said = conclusions(JOB.side, CONTROL.side, found)

    assert said[0] == "An image takes 2.00 times the control's work."
    assert said[1].startswith("At equal images, KD-ENL0 is lower (3 against 6;")
    assert said[2].startswith("At equal work, KD-ENL0 is higher (9 against 7;")
    same = list(pairs(metric_curves(JOB, LIKE), metric_curves(JOB, LIKE)))
    assert said[-1].endswith("of these two trainings; other seeds may differ by more.")
    assert "not different beyond the evaluations' own chance" in conclusions(JOB.side, JOB.side, same)[1]


def test_a_report_says_how_it_was_measured_and_what_people_call_both() -> None:
    ours, theirs = metric_curves(JOB, LIKE), metric_curves(CONTROL, LIKE)
    comparison = Comparison(
        job=replace(JOB, name="with <b>term</b>").side,
        control=CONTROL.side,
        differences={},
        is_paired=True,
        protocol={"num_images": 5000, "sampler": {"steps": 40}, "classes": None},
        pairs=tuple(pairs(ours, theirs)),
        conclusions=(),
        files=(),
        ended_at=datetime(2026, 11, 1, tzinfo=UTC),
    )

    page = report_html(comparison, None, {})

    heading = f"with &lt;b&gt;term&lt;/b&gt; ({JOB.job_id}) beside {CONTROL.job_id}"
    assert f"<h1>{heading}</h1>" in page
    rows = ("<td>num_images</td><td>5000</td>", "<td>sampler.steps</td><td>40</td>", "<td>classes</td><td>null</td>")
    assert all(f"<tr>{row}</tr>" in page for row in rows)


def test_a_report_needs_nothing_else_and_shows_what_users_wrote_as_text() -> None:
    ours, theirs = metric_curves(JOB, LIKE), metric_curves(CONTROL, LIKE)
    comparison = Comparison(
        job=JOB.side,
        control=CONTROL.side,
        differences={"objective.consistency": (None, "<script>")},
        is_paired=True,
        pairs=tuple(pairs(ours, theirs)),
        conclusions=("one",),
        files=(),
        ended_at=datetime(2026, 11, 1, tzinfo=UTC),
    )

    plot = draw_metric_curves(ours, theirs, ["KD-ENL0"])
    page = report_html(comparison, plot, {"a <b>": plot})

    assert plot.startswith(b"\x89PNG")
    assert page.count("data:image/png;base64,") == 2
    assert "<script>" not in page
    assert "a &lt;b&gt;" in page
    assert "http" not in page.replace("data:image", "")
