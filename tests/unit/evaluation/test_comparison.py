"""Two trainings beside each other: at equal images, at equal work, and how sure that is."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from workers.contract.comparing import Comparison
from workers.contract.evaluation import Evaluation, Measure
from workers.contract.model import Sampler
from workers.contract.records import Origin
from workers.contract.sampling import CheckpointSource
from workers.evaluation.comparison import History, conclusions, courses, is_alike, pairs
from workers.evaluation.comparison_report import draw_courses, report_html


def evaluation(images_seen: int, value: float, *, error: float | None = 0.5, **changes: object) -> Evaluation:
    document = {
        "job_id": f"evaluation-{images_seen}",
        "checkpoint": CheckpointSource(job_id="trained", images_seen=images_seen, average="ema"),
        "checkpoint_seal": None,
        "features": "lite0",
        "features_fingerprint": "a" * 64,
        "reference": "b" * 64,
        "num_reference": 100,
        "num_images": 50,
        "repeats": 1,
        "first_seed": 0,
        "sampler": Sampler(),
        "measures": {"KD-ENL0": Measure(value=value, standard_error=error)},
        "curves": {},
        "versions": {},
        "files": (),
        "ended_at": datetime(2026, 11, 1, tzinfo=UTC),
    }
    return Evaluation.model_validate(document | changes)


def history(job_id: str, values: Mapping[int, float], *, rate: float, error: float | None = 0.5) -> History:
    """Two workers; a row of metrics and an evaluation at each of these images."""
    rows = {seen: {"throughput/images_per_second": rate} for seen in values}
    return History(job_id, 2, rows, [evaluation(seen, value, error=error) for seen, value in values.items()])


JOB = history("job", {100: 9.0, 200: 5.0, 300: 3.0}, rate=10.0)
CONTROL = history("control", {100: 10.0, 200: 7.0, 300: 6.0}, rate=20.0)
LIKE = evaluation(300, 0.0)


def test_work_is_what_all_workers_spend_on_steps() -> None:
    assert JOB.seconds == {0: 0.0, 100: 20.0, 200: 40.0, 300: 60.0}
    assert (JOB.side.worker_seconds, JOB.side.microseconds_per_image) == (60.0, 200_000.0)


def test_they_are_compared_at_equal_images_and_where_the_control_has_had_as_much_work() -> None:
    found = list(pairs(courses(JOB, LIKE), courses(CONTROL, LIKE)))

    assert [(pair.at, pair.images_seen, pair.job, pair.control) for pair in found] == [
        ("images", 100, 9.0, 10.0),
        ("images", 200, 5.0, 7.0),
        ("images", 300, 3.0, 6.0),
        ("seconds", 100, 9.0, 7.0),  # 20 s: the control has seen 200 by then
    ]
    assert found[-1].control_images_seen == pytest.approx(200)


def test_between_two_evaluations_the_control_lies_on_the_straight_line() -> None:
    slow = history("slow", {150: 5.0}, rate=12.0)  # 25 s: the control stands half way between 200 and 300

    (pair,) = [pair for pair in pairs(courses(slow, LIKE), courses(CONTROL, LIKE)) if pair.at == "seconds"]

    assert (pair.control_images_seen, pair.control) == (pytest.approx(250), pytest.approx(6.5))


def test_an_interval_takes_the_errors_of_both() -> None:
    first = next(pairs(courses(JOB, LIKE), courses(CONTROL, LIKE)))
    unsure = history("unsure", {100: 9.0}, rate=10.0, error=None)
    second = next(pairs(courses(unsure, LIKE), courses(CONTROL, LIKE)))

    assert first.low == pytest.approx(-1.0 - 1.96 * 0.5**0.5)
    assert first.high == pytest.approx(-1.0 + 1.96 * 0.5**0.5)
    assert (second.low, second.high) == (None, None)


def test_errors_of_a_few_blocks_make_wide_intervals() -> None:
    of_two = [Measure(value=mean, blocks=(mean - 0.5, mean + 0.5), standard_error=0.5) for mean in (9.0, 10.0)]
    ours, theirs = (History("job", 2, {100: {}}, [evaluation(100, 0.0, measures={"FID": each})]) for each in of_two)

    first = next(pairs(courses(ours, LIKE), courses(theirs, LIKE)))

    assert first.high == pytest.approx(-1.0 + 4.30 * 0.5**0.5)  # Student's t of 2 degrees of freedom


def test_what_a_fork_costs_begins_where_it_began() -> None:
    origin = Origin(job_id="parent", images_seen=100, attempt=1)

    fork = History("fork", 2, {200: {"throughput/images_per_second": 10.0}}, [], origin)

    assert fork.seconds == {100: 0.0, 200: 20.0}
    assert fork.side.microseconds_per_image == 200_000.0


@pytest.mark.parametrize(
    "changes",
    [
        {"num_images": 51},
        {"features_fingerprint": "c" * 64},
        {"reference": "c" * 64},
        {"sampler": Sampler(steps=5)},
        {"checkpoint": CheckpointSource(job_id="trained", images_seen=300, average="network")},
    ],
)
def test_only_what_was_evaluated_alike_is_compared(changes: dict[str, object]) -> None:
    other = evaluation(300, 1.0, **changes)

    assert not is_alike(other, LIKE)
    assert courses(History("job", 1, {}, [other]), LIKE) == {}


def test_the_words_are_chosen_by_the_numbers() -> None:
    found = list(pairs(courses(JOB, LIKE), courses(CONTROL, LIKE)))

    said = conclusions(JOB.side, CONTROL.side, found)

    assert said[0] == "An image takes 2.00 times the control's work."
    assert said[1].startswith("At equal images, KD-ENL0 is lower (3 against 6;")
    assert said[2].startswith("At equal work, KD-ENL0 is higher (9 against 7;")
    same = list(pairs(courses(JOB, LIKE), courses(JOB, LIKE)))
    assert "not different beyond chance" in conclusions(JOB.side, JOB.side, same)[1]


def test_a_report_needs_nothing_else_and_shows_what_users_wrote_as_text() -> None:
    ours, theirs = courses(JOB, LIKE), courses(CONTROL, LIKE)
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

    plot = draw_courses(ours, theirs, ["KD-ENL0"])
    page = report_html(comparison, plot, {"a <b>": plot})

    assert plot.startswith(b"\x89PNG")
    assert page.count("data:image/png;base64,") == 2
    assert "<script>" not in page
    assert "a &lt;b&gt;" in page
    assert "http" not in page.replace("data:image", "")
