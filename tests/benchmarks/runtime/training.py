"""The product's own step, taken in this process."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

from tests.support.images import random_images
from workers.contract.presets import PRESETS
from workers.contract.spec import TrainSpec, parse_spec
from workers.training.state import new_state
from workers.training.step import Step, Trainer
from workers.training.world import World

_WARM_UP_STEPS = 3


def spec_of(*, batch_images: int, **network: object) -> TrainSpec:
    """The quick start's preset, of another batch and network."""
    document = PRESETS["fashion16"].model_dump(mode="json")
    document["network"] |= network
    return parse_spec(document | {"batch_images": batch_images, "compute": {"accelerator": "cpu"}})


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of the clock, and of processors: by this process, and by the servers that it has started."""

    wall: float
    own_cpu: float
    servers_cpu: float

    @classmethod
    def so_far(cls) -> "Spent":
        servers = [server.cpu_times() for server in psutil.Process().children(recursive=True)]
        return cls(time.perf_counter(), time.process_time(), sum(one.user + one.system for one in servers))

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.wall - other.wall, self.own_cpu - other.own_cpu, self.servers_cpu - other.servers_cpu)

    def __str__(self) -> str:
        return f"{self.wall:.2f} s"


class Training:
    """Steps on random images by one thread, as workers take them."""

    def __init__(self, spec: TrainSpec) -> None:
        torch.set_num_threads(1)
        images = random_images(count=1024, resolution=16, channels=1, num_classes=10)
        self.state = new_state(spec, images.manifest, torch.device("cpu"))
        self._trainer = Trainer(self.state, images, spec, World.alone(torch.device("cpu")))
        self.spent(_WARM_UP_STEPS)

    def step(self) -> Step:
        return self._trainer.step()

    def spent(self, num_steps: int, *, after_each: Callable[[int], object] = lambda _number: None) -> Spent:
        """On so many steps, with something done after each of them."""
        before = Spent.so_far()
        for number in range(num_steps):
            self.step()
            after_each(number)
        return Spent.so_far() - before

    def steps_in(self, seconds: float) -> int:
        """About so many fit."""
        return math.ceil(seconds / (self.spent(_WARM_UP_STEPS).wall / _WARM_UP_STEPS))
