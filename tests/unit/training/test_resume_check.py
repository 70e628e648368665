"""A resumed run says how it compares with the run that was interrupted."""

import math

import pytest

from workers.training.resume_check import ResumeCheck

RECORDED = {seen: {"loss/dsm": 0.5 + seen / 1000, "throughput/images_per_second": 10.0} for seen in range(110, 500, 10)}


def checked(factor: float, *, rows: int = 3, other_device: str | None = None) -> ResumeCheck:
    check = ResumeCheck(100, RECORDED, other_device=other_device)
    for seen in range(110, 110 + 10 * rows, 10):
        check.compare(seen, {"loss/dsm": RECORDED[seen]["loss/dsm"] * factor, "throughput/images_per_second": 99.0})
    return check


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        (1.0, "bit_exact"),
        (math.nextafter(1.0, 2.0), "within_tolerance"),
        (1.0009, "within_tolerance"),
        (1.002, "diverged"),
        (0.9, "diverged"),
    ],
)
def test_the_verdict_rests_on_the_largest_difference_of_a_loss(factor: float, verdict: str) -> None:
    result = checked(factor).result

    assert (result.images_seen, result.verdict, result.compared_rows) == (100, verdict, 3)
    assert result.largest_difference == pytest.approx(abs(factor - 1) / max(factor, 1), rel=1e-6)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0009, "within_tolerance"), (1.002, "nothing_to_compare")])
def test_losses_that_differ_say_nothing_where_another_device_drew_the_noise(factor: float, verdict: str) -> None:
    result = checked(factor, other_device="A100").result

    assert (result.verdict, result.other_device) == (verdict, "A100")


def test_one_row_that_differs_is_enough() -> None:
    check = checked(1.0)

    check.compare(140, {"loss/dsm": 0.1})

    assert check.result.verdict == "diverged"


def test_rows_that_nobody_recorded_say_nothing() -> None:
    check = ResumeCheck(490, {})

    check.compare(500, {"loss/dsm": 0.5})

    assert check.result.verdict == "nothing_to_compare"


def test_twenty_rows_are_enough() -> None:
    check = checked(1.0, rows=20)

    check.compare(310, {"loss/dsm": 0.0})

    assert (check.result.verdict, check.result.compared_rows) == ("bit_exact", 20)


def test_rows_of_other_images_are_not_compared_though_they_end_with_the_same() -> None:
    """The run before was asked for a checkpoint at 115 images, and died before that was committed."""
    check = ResumeCheck(100, {115: {"loss/dsm": 0.9}, 120: {"loss/dsm": 0.1}, 130: {"loss/dsm": 0.4}})

    for seen, loss in ((110, 0.6), (120, 0.5), (130, 0.4)):
        check.compare(seen, {"loss/dsm": loss})

    assert (check.result.verdict, check.result.compared_rows) == ("bit_exact", 1)
