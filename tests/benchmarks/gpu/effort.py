"""On which device is measured, and for how long."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Effort:
    """`tiny` is for tests: does it run at all."""

    device: torch.device
    tiny: bool

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def product_side(self) -> int:
        return 128 if self.tiny else 8192

    def warm_up(self, call: Callable[[], object]) -> None:
        """The first calls choose algorithms and find memory."""
        for _ in range(1 if self.tiny else 5):
            call()
        self.settle()

    def seconds(self, call: Callable[[], object]) -> float:
        """Mean wall time of a call, the device's work included: ten of them, and at least a second."""
        least_calls, least_seconds = (1, 0.0) if self.tiny else (10, 1.0)
        begin, calls = time.perf_counter(), 0
        while calls < least_calls or time.perf_counter() - begin < least_seconds:
            for _ in range(least_calls):
                call()
            calls += least_calls
            self.settle()
        return (time.perf_counter() - begin) / calls

    def settle(self) -> None:
        """Wait for the device."""
        if self.on_gpu:
            torch.cuda.synchronize()
