"""Onto which curves of a training what was found of its checkpoints goes."""

import re
from typing import Any

import pytest

from tests.support.findings import evaluation_of
from workers.contract.curves import best_checkpoint, curve_points, is_best_where_lowest
from workers.contract.evaluation import Evaluation
from workers.contract.model import Sampler
from workers.contract.sampling import ResolvedCheckpoint

FD, LOSSES = "FD-ENL0", {name: {"value": 1.0} for name in ("loss", "loss_at_held_out")}
EDM = {"kind": "edm", "sigma_data": 0.5}
LEVEL = {"sigma": 1.0, "mean": 0.1, "standard_error": 0.01, "count": 256}


def distance(images_seen: int, value: float, **how: Any) -> Evaluation:
    return evaluation_of(images_seen, measures={FD: {"value": value}}, **how)


def curve(name: str, *evaluations: Evaluation) -> list[tuple[int, float]]:
    """By images seen."""
    points = curve_points(evaluations)
    return [
        (each.checkpoint.images_seen, points[each.job_id][name]) for each in evaluations if name in points[each.job_id]
    ]


def test_a_distance_of_more_images_is_lower_and_does_not_choose_the_checkpoint() -> None:
    of_itself = [distance(seen, value) for seen, value in ((10, 400.0), (20, 200.0), (30, 150.0), (40, 123.0))]
    by_hand = distance(20, 90.0, job_id="by_hand", num_images=4000, ended_at="2026-11-02T00:00:00Z")

    plain = curve(f"eval/{FD}-50", *of_itself, by_hand)
    other = curve(f"eval/{FD}-4k", *of_itself, by_hand)

    assert plain == [(10, 400), (20, 200), (30, 150), (40, 123)]
    assert other == [(20, 90)]
    assert best_checkpoint(f"eval/{FD}-50", [*of_itself, by_hand], among=[10, 20, 30, 40]) == 40


def test_the_best_checkpoint_is_one_of_those_that_are_there_and_has_a_value_of_its_own() -> None:
    evaluations = [distance(seen, value) for seen, value in ((100, 0.9), (200, 0.2), (400, 0.5))]

    def best(*among: int) -> int | None:
        return best_checkpoint(f"eval/{FD}-50", evaluations, among=among)

    assert best(100, 200, 250, 300, 400) == 200
    assert best(100, 250, 400) == 400
    assert best(250, 300) is None
    assert best_checkpoint("eval/FID-50k", evaluations, among=[100, 200, 400]) is None


def test_of_two_values_at_one_checkpoint_the_last_counts() -> None:
    first, again = distance(100, 0.1, job_id="a"), distance(100, 0.9, job_id="b", ended_at="2026-11-02T00:00:00Z")

    assert best_checkpoint(f"eval/{FD}-50", [again, first, distance(200, 0.5)], among=[100, 200]) == 200


@pytest.mark.parametrize(
    ("how", "section"),
    [
        ({}, "eval"),
        ({"checkpoint_seal": "c" * 64, "num_reference": 99, "versions": {"torch": "3"}}, "eval"),
        ({"repeats": 3}, "eval-repeats-3"),
        ({"classes": (8,)}, "eval-classes-8"),
        ({"classes": tuple(range(100))}, r"eval-classes-[0-9a-f]{8}"),
        ({"labels": "evenly"}, "eval-labels-evenly"),
        ({"first_seed": 7}, "eval-first_seed-7"),
        ({"reference": "0123456789" * 6 + "abcd"}, "eval-reference-01234567"),
        ({"features_fingerprint": "c" * 64}, "eval-features_fingerprint-cccccccc"),
        ({"sampler": Sampler(method="dpmpp_2m", steps=9)}, r"eval-sampler\.method-dpmpp_2m-sampler\.steps-9"),
        (
            {"checkpoint": ResolvedCheckpoint(job_id="trained", images_seen=20, average="ema-0.050")},
            r"eval-average-ema-0\.050",
        ),
        (
            {
                "repeats": 3,
                "sampler": Sampler(method="euler", steps=9, sigma_max=40.0, sigma_min=0.01, rho=5.0, guidance=2),
            },
            "eval-[0-9a-f]{8}",
        ),
    ],
)
def test_what_was_measured_in_another_way_is_on_a_curve_that_says_how(how: dict[str, Any], section: str) -> None:
    points = curve_points([distance(10, 2.0), distance(20, 1.0, **how)])

    (name,) = points["evaluation-20"]
    assert re.fullmatch(f"{section}/{FD}-50", name)
    assert re.fullmatch(r"[\w.:/ -]{1,200}", name), "what MLflow takes, and who asks for a curve may say"


@pytest.mark.parametrize(
    ("how", "sections"),
    [
        ({"drift_images": 100}, ("eval-drift_images-100", "eval-drift_images-100")),
        ({"held_out": "e" * 64}, ("eval", "eval-held_out-eeeeeeee")),
        ({"weighting": EDM | {"sigma_data": 0.25}}, ("eval-weighting.sigma_data-0.25",) * 2),
        ({"curves": {"loss_at_held_out": [LEVEL]}}, ("eval", "eval-levels-1.0")),
    ],
)
def test_losses_are_of_the_same_images_and_noise_levels_too(how: dict[str, Any], sections: tuple[str, str]) -> None:
    known = {"drift_images": 256, "held_out": "d" * 64, "weighting": EDM, "measures": {FD: {"value": 1.0}} | LOSSES}

    points = curve_points([evaluation_of(10, **known), evaluation_of(20, **known | how)])

    assert [*points["evaluation-10"]] == [f"eval/{name}" for name in (f"{FD}-50", *LOSSES)]
    assert [*points["evaluation-20"]] == [f"eval/{FD}-50", f"{sections[0]}/loss", f"{sections[1]}/loss_at_held_out"]


@pytest.mark.parametrize(
    ("num_images", "name"),
    [(100, "100"), (999, "999"), (1000, "1k"), (1500, "1500"), (5000, "5k"), (50_000, "50k"), (1_000_000, "1000k")],
)
def test_the_number_of_drawn_images_is_in_the_name_whatever_was_measured_before(num_images: int, name: str) -> None:
    a_quick_try, other = distance(10, 3.0, num_images=60), distance(20, 2.0, num_images=num_images)

    assert [*curve_points([other])["evaluation-20"]] == [f"eval/{FD}-{name}"]
    assert [*curve_points([a_quick_try, other])["evaluation-20"]] == [f"eval/{FD}-{name}"]


def test_losses_and_gaps_are_on_one_curve_however_many_images_were_drawn() -> None:
    measures = {name: {"value": 1.0} for name in ("loss", "gap_at_images")}

    points = curve_points([evaluation_of(seen, measures=measures, num_images=seen, repeats=seen) for seen in (10, 20)])

    assert [[*each] for each in points.values()] == [["eval/loss", "eval/gap_at_images"]] * 2


def test_of_those_of_so_many_images_the_plain_name_is_of_the_first_whatever_the_checkpoint() -> None:
    late = distance(30, 1.0, ended_at="2026-10-01T00:00:00Z")
    early = distance(10, 2.0, first_seed=60)

    points = curve_points([early, late])

    assert [*points["evaluation-30"]] == [f"eval/{FD}-50"]
    assert [*points["evaluation-10"]] == [f"eval-first_seed-60/{FD}-50"]


def test_the_error_and_of_several_blocks_the_lowest_are_curves_too() -> None:
    measure = {"value": 2.0, "blocks": (1.5, 2.5), "standard_error": 0.25}

    (points,) = curve_points([evaluation_of(10, measures={FD: measure})]).values()

    assert points == {f"eval/{FD}-50": 2.0, f"eval/{FD}-50_error": 0.25, f"eval/{FD}-50_min": 1.5}


@pytest.mark.parametrize(
    ("curve", "best_where_lowest"),
    [
        ("eval/KD-ENL0-1k", True),
        ("eval-sampler.steps-40/FID-50k_min", True),
        ("eval/KD-ENL0-1k_error", False),
        ("eval/loss_at_held_out", True),
        ("eval/recall-1k", False),
        ("eval-classes-8/coverage-1k", False),
        ("loss/dsm", False),
        ("dsm_by_sigma/0.1-0.3", False),
        ("throughput/images_per_second", False),
        ("evaluated", False),
    ],
)
def test_a_curve_says_by_its_name_whether_it_is_of_checkpoints_and_best_where_lowest(
    curve: str, best_where_lowest: bool
) -> None:
    assert is_best_where_lowest(curve) == best_where_lowest
