"""Acting together."""

from collections import deque
from dataclasses import astuple
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from workers.training import agreement
from workers.training.agreement import Agreement
from workers.training.run import RunRequests
from workers.training.world import World


class Pair(World):
    """One of two processes; what the other one contributes to each sum is given."""

    theirs: ClassVar[deque[RunRequests]] = deque()

    def all_reduce(self, values: Tensor) -> Tensor:
        told = [*map(float, astuple(self.theirs.popleft())), float(values[-1])]
        return values + torch.tensor(told, dtype=values.dtype)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Pair:
    monkeypatch.setattr(agreement, "_LOOK_EVERY_SECONDS", 0.0)  # at every step
    world = Pair(0, 2, torch.device("cpu"))
    world.theirs.clear()
    return world


def test_one_that_was_asked_takes_the_other_along(pair: Pair) -> None:
    pair.theirs.extend([RunRequests(), RunRequests(stop=True), RunRequests(), RunRequests(checkpoint=True)])
    agreement = Agreement(pair)

    assert agreement.reached(RunRequests) == RunRequests()
    assert agreement.reached(RunRequests) == RunRequests(stop=True)
    assert agreement.reached(lambda: RunRequests(stop=True)) == RunRequests(stop=True)
    assert agreement.reached(lambda: RunRequests(stop=True)) == RunRequests(stop=True, checkpoint=True)


def test_most_steps_cost_nothing() -> None:
    looks = []
    alone = Agreement(World.alone(torch.device("cpu")))

    for _ in range(1000):
        alone.reached(lambda: RunRequests(stop=bool(looks.append(1))))

    assert 1 <= len(looks) < 50
