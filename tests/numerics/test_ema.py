"""The moving average and its half-life in images."""

import pytest
import torch

from workers.contract.model import ExponentialMovingAverage
from workers.diffusion.ema import ema_decay, update_ema


def test_half_of_the_average_is_forgotten_after_a_half_life() -> None:
    config = ExponentialMovingAverage(halflife_images=1000)
    decay = ema_decay(config, batch_images=100, images_seen=10**9)

    assert decay**10 == pytest.approx(0.5)


def test_the_half_life_is_shorter_at_the_start() -> None:
    config = ExponentialMovingAverage(halflife_images=1000, rampup_ratio=0.05)

    assert ema_decay(config, batch_images=100, images_seen=2000) == pytest.approx(0.5)
    assert ema_decay(config, batch_images=100, images_seen=0) == 0


def test_the_average_moves_in_place() -> None:
    average, weights = [torch.zeros(3)], [torch.ones(3)]

    update_ema(average, weights, 0.75)

    assert average[0].tolist() == [0.25] * 3
