"""Leaving together."""

from collections import deque
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from workers.training import agreement
from workers.training.agreement import StopAgreement
from workers.training.world import World


class Pair(World):
    """One of two processes; what the other one contributes to each sum is given."""

    theirs: ClassVar[deque[float]] = deque()

    def sum(self, values: Tensor) -> Tensor:
        stop = self.theirs.popleft()
        return values + torch.tensor([stop, float(values[1])], dtype=values.dtype)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Pair:
    monkeypatch.setattr(agreement, "_LOOK_EVERY_SECONDS", 0.0)  # at every step
    world = Pair(0, 2, torch.device("cpu"))
    world.theirs.clear()
    return world


def test_one_that_was_asked_takes_the_other_along(pair: Pair) -> None:
    pair.theirs.extend([0, 1, 0])
    stops = StopAgreement(pair)

    assert not stops.reached(lambda: False)
    assert stops.reached(lambda: False)
    assert stops.reached(lambda: True)


def test_most_steps_cost_nothing() -> None:
    looks = []
    stops = StopAgreement(World.alone(torch.device("cpu")))

    for _ in range(1000):
        stops.reached(lambda: bool(looks.append(1)))

    assert 1 <= len(looks) < 50
