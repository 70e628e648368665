"""What a driver and Ray Train's controller have to tell the workers of a run: to leave, or to save now."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import ray
import structlog
from ray.exceptions import ActorDiedError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from workers.logs import in_one_line
from workers.training.run import RunRequests

T = TypeVar("T")
log = structlog.get_logger()

_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Asked:
    """Of workers, so far."""

    stop: bool = False
    num_checkpoints: int = 0


class SignalActor:
    """Where it is written down; an actor that belongs to the driver and ends with it."""

    def __init__(self) -> None:
        self._asked = Asked()

    def ask_to_stop(self) -> None:
        self._asked = Asked(True, self._asked.num_checkpoints)

    def ask_for_checkpoint(self) -> None:
        self._asked = Asked(self._asked.stop, self._asked.num_checkpoints + 1)

    def read(self) -> Asked:
        return self._asked


@dataclass(frozen=True, slots=True)
class Signals:
    """The way from the driver and the controller to the workers; travels to all of them."""

    actor: Any

    @classmethod
    def open(cls) -> Self:
        """On the driver's node: elsewhere it might die with a node, and its readers with it."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return cls(ray.remote(num_cpus=0, scheduling_strategy=here)(SignalActor).remote())

    def forward(self, stop: threading.Event) -> None:
        """Pass the driver's wish to stop on, once there is one."""
        threading.Thread(target=self._forward, args=(stop,), daemon=True).start()

    def ask_for_checkpoint(self) -> None:
        ray.get(self.actor.ask_for_checkpoint.remote())

    def read(self) -> Asked:
        asked: Asked = ray.get(self.actor.read.remote())
        return asked

    def _forward(self, stop: threading.Event) -> None:
        stop.wait()
        log.info("stop.requested")
        try:
            _answer_of(lambda: ray.get(self.actor.ask_to_stop.remote()))
        except ActorDiedError as error:
            log.error("stop.not_forwarded", error=in_one_line(error))


class SignalPoller:
    """Reads the actor in a thread of a worker. A checkpoint that was asked of workers before it is none of its own."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._asked = signals.read()
        self._num_checkpoints = self._asked.num_checkpoints
        threading.Thread(target=self._poll, daemon=True).start()

    def new_requests(self) -> RunRequests:
        """Since it was last called; to stop stays."""
        asked, before = self._asked, self._num_checkpoints
        self._num_checkpoints = asked.num_checkpoints
        return RunRequests(stop=asked.stop, checkpoint=asked.num_checkpoints > before)

    def _poll(self) -> None:
        try:
            while not self._asked.stop:
                threading.Event().wait(_POLL_SECONDS)
                self._asked = _answer_of(self._signals.read)
        except ActorDiedError as error:  # with its driver, or its driver's node: nobody is left to ask for anything
            log.error("signals.lost", error=in_one_line(error))


def _answer_of(ask: Callable[[], T]) -> T:
    """What an actor answers, asked until it can be reached: Ray repeats no call, and a network has its moments.

    Raises:
        ActorDiedError: it will never answer.
    """
    is_unreachable = False
    while True:
        try:
            answer = ask()
        except ActorDiedError:
            raise
        except RayError as error:
            if not is_unreachable:
                log.warning("signals.unreachable", error=in_one_line(error))
            is_unreachable = True
            threading.Event().wait(_POLL_SECONDS)
        else:
            if is_unreachable:
                log.info("signals.reachable")
            return answer
