"""Leaving together: processes that train in step must also stop in step, or the others wait for ever."""

import time
from collections.abc import Callable

import torch

from workers.training.world import World

_LOOK_EVERY_SECONDS = 2.0


class StopAgreement:
    """Brings all processes to the same answer within about two seconds, for one small reduction in that time.

    How many steps that is, they agree on by their mean pace, so that no clock has to agree.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._steps = 0
        self._steps_to_look = 1
        self._since = time.monotonic()

    def reached(self, asked: Callable[[], bool]) -> bool:
        """Whether any process has been asked to stop. Every process calls this once after every step."""
        self._steps += 1
        if self._steps < self._steps_to_look:
            return False
        pace = (time.monotonic() - self._since) / self._steps
        both = torch.tensor([float(asked()), pace / self._world.size], dtype=torch.float64, device=self._world.device)
        stops: float
        mean_pace: float
        stops, mean_pace = self._world.sum(both).tolist()
        self._steps, self._since = 0, time.monotonic()
        self._steps_to_look = max(1, int(_LOOK_EVERY_SECONDS / mean_pace))
        return stops > 0
