"""What is measured of the steps between two reports."""

import math
from itertools import pairwise

import pytest
import torch

from workers.diffusion.objective import Terms
from workers.training.telemetry import BIN_NAMES, SIGMA_EDGES, Window
from workers.training.world import World

CPU = torch.device("cpu")


def terms(sigma: list[float], dsm: list[float], consistency: list[float]) -> Terms:
    return Terms(torch.tensor(sigma), torch.tensor(dsm), torch.tensor(consistency))


def window(weight: float = 2.0) -> Window:
    return Window(World.alone(CPU), weight=weight)


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


def test_every_bin_has_a_name() -> None:
    edges = ["0", *(f"{edge:g}" for edge in SIGMA_EDGES), "inf"]

    assert tuple(f"{low}-{high}" for low, high in pairwise(edges)) == BIN_NAMES
