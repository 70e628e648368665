"""What is measured of the steps between two reports."""

import math
from itertools import pairwise

import pytest
import torch

from workers.contract.consistency import Consistency, Symmetric, Target
from workers.diffusion.objective import Terms
from workers.training.telemetry import BIN_NAMES, SIGMA_EDGES, Window
from workers.training.world import World

CPU = torch.device("cpu")
TERM = Symmetric(estimator="symmetric", weight=2.0)


def terms(sigma: list[float], dsm: list[float], consistency: list[float]) -> Terms:
    return Terms(torch.tensor(sigma), torch.tensor(dsm), torch.tensor(consistency))


def window(term: Consistency | None = TERM) -> Window:
    return Window(World.alone(CPU), term)


def test_losses_are_means_over_all_steps_and_by_noise_level() -> None:
    open_window = window()
    open_window.add(terms([0.01, 0.2], [1.0, 2.0], [0.5]), torch.tensor(3.0))
    open_window.add(terms([0.02, 5.0], [3.0, 6.0], [0.7]), torch.tensor(5.0))

    measured = open_window.close()

    assert measured.losses == pytest.approx({"dsm": 3.0, "consistency": 0.6})
    assert measured.telemetry == pytest.approx(
        {
            "dsm_by_sigma/0-0.03": 2.0,
            "dsm_by_sigma/0.1-0.3": 2.0,
            "dsm_by_sigma/3-inf": 6.0,
            "consistency_by_sigma/0-0.03": 0.6,
            "loss/consistency_share": 2.0 * 0.6 / 3.0,
            "optimizer/gradient_norm": 4.0,
            "optimizer/skipped_steps": 0.0,
        }
    )


def test_a_closed_window_starts_anew() -> None:
    open_window = window()
    open_window.add(terms([1.0], [1.0], []), torch.tensor(1.0))
    open_window.close()
    open_window.add(terms([1.0], [5.0], []), torch.tensor(1.0))

    assert open_window.close().losses == {"dsm": 5.0}


def test_one_bad_step_is_counted_and_left_out_of_the_means() -> None:
    open_window = window()
    for _ in range(3):
        open_window.add(terms([1.0, 1.0], [2.0, 2.0], []), torch.tensor(1.0))
    open_window.add(terms([1.0, 1.0], [math.nan, math.inf], []), torch.tensor(math.nan))

    measured = open_window.close()

    assert measured.losses == {"dsm": 2.0}
    assert measured.telemetry["optimizer/skipped_steps"] == 1
    assert measured.telemetry["optimizer/gradient_norm"] == 1


def test_losses_that_are_mostly_not_finite_are_not_a_number() -> None:
    open_window = window()
    open_window.add(terms([1.0, 1.0, 1.0], [1.0, math.nan, math.inf], []), torch.tensor(math.nan))

    assert math.isnan(open_window.close().losses["dsm"])


def steps(open_window: Window, *gradient_norms: float) -> str | None:
    """What a window of these is in trouble for; its losses are finite."""
    for norm in gradient_norms:
        open_window.add(terms([1.0], [2.0], []), torch.tensor(norm))
    return open_window.close().trouble


def test_steps_that_were_mostly_skipped_are_trouble_however_finite_their_losses() -> None:
    assert steps(window(), *[1.0] * 5, *[math.nan] * 5) is None

    trouble = steps(window(), *[1.0] * 4, *[math.nan, math.inf] * 3)
    assert trouble is not None
    assert "gradients are not finite" in trouble


def test_one_skipped_step_is_no_trouble_where_every_step_is_reported() -> None:
    """Ten steps are judged together, then the next ten: one window's past does not weigh on it for ever."""
    open_window = window()

    assert [steps(open_window, math.nan)] + [steps(open_window, 1.0) for _ in range(9)] == [None] * 10
    assert [steps(open_window, math.nan) for _ in range(9)] == [None] * 9
    assert steps(open_window, math.nan) is not None


def test_the_regression_of_target_does_not_pass_for_inconsistency() -> None:
    open_window = window(Target(estimator="target"))
    open_window.add(terms([1.0], [2.0], [0.5]), torch.tensor(1.0))

    measured = open_window.close()

    assert measured.losses == {"dsm": 2.0, "target_regression": 0.5}
    assert measured.telemetry["loss/target_regression_share"] == 0.25


def test_every_bin_has_a_name() -> None:
    edges = ["0", *(f"{edge:g}" for edge in SIGMA_EDGES), "inf"]

    assert tuple(f"{low}-{high}" for low, high in pairwise(edges)) == BIN_NAMES
