"""Acting together: processes that train in step must also stop and save in step, or the others wait for ever."""

import time
from collections.abc import Callable
from dataclasses import astuple

import torch

from workers.training.run import RunRequests
from workers.training.world import World

_LOOK_EVERY_SECONDS = 2.0


class Agreement:
    """Brings all processes to the same requests within about two seconds, for one small reduction in that time.

    How many steps that is, they agree on by their mean pace, so that no clock has to agree.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._steps = 0
        self._steps_to_look = 1
        self._since = time.monotonic()

    def reached(self, poll_requests: Callable[[], RunRequests]) -> RunRequests:
        """What any process has heard. Every process calls this once after every step; most times nobody is asked."""
        self._steps += 1
        if self._steps < self._steps_to_look:
            return RunRequests()
        pace = (time.monotonic() - self._since) / self._steps
        told = [*map(float, astuple(poll_requests())), pace / self._world.size]
        *requests, mean_pace = self._world.all_reduce(
            torch.tensor(told, dtype=torch.float64, device=self._world.device)
        ).tolist()
        self._steps, self._since = 0, time.monotonic()
        self._steps_to_look = max(1, int(_LOOK_EVERY_SECONDS / mean_pace))
        return RunRequests(*(count > 0 for count in requests))
