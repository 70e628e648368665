"""What a worker hears of what its driver and Ray Train's controller ask. The way over Ray: `e2e`, and `chaos`."""

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError
from structlog.testing import capture_logs

from tests.support.waiting import wait_until
from workers.jobs import signals as signals_module
from workers.jobs.signals import Asked, SignalActor, SignalPoller, Signals

AWAY = ActorUnavailableError("connection reset by peer", None)


class Here:
    """The actor in this process, without Ray between."""

    def __init__(self) -> None:
        self.actor = SignalActor()

    def read(self) -> Asked:
        return self.actor.read()


def test_a_checkpoint_is_heard_of_once_and_not_by_workers_that_came_after_it_was_asked_for() -> None:
    signals = Here()
    signals.actor.ask_for_checkpoint()
    poller = SignalPoller(signals)
    assert not poller.new_requests().checkpoint

    signals.actor.ask_for_checkpoint()
    found = wait_until(lambda: (requests := poller.new_requests()).checkpoint and requests)

    assert not found.stop
    assert not poller.new_requests().checkpoint
    signals.actor.ask_to_stop()  # which ends the polling, too
    wait_until(lambda: poller.new_requests().stop)


def test_that_it_shall_stop_stays_heard_and_takes_no_checkpoint_back() -> None:
    signals = Here()
    poller = SignalPoller(signals)

    signals.actor.ask_for_checkpoint()
    signals.actor.ask_to_stop()
    found = [poller.new_requests()]

    def is_asked_to_stop() -> bool:
        found.append(poller.new_requests())
        return found[-1].stop

    wait_until(is_asked_to_stop)
    assert sum(requests.checkpoint for requests in found) == 1
    assert poller.new_requests().stop
    assert SignalPoller(signals).new_requests().stop, "workers that are restarted leave, too"


class Flaky(Here):
    """Out of reach as often as there are errors in `fails`."""

    def __init__(self, *fails: RayError) -> None:
        super().__init__()
        self.fails = list(fails)

    def read(self) -> Asked:
        self.fail()
        return super().read()

    def fail(self) -> None:
        if self.fails:
            raise self.fails.pop(0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals_module, "_POLL_SECONDS", 0.01)


def remote_call(call: Callable[[], None]) -> SimpleNamespace:
    """An actor's method that `ray.get` calls."""
    return SimpleNamespace(remote=lambda: call)


@pytest.mark.usefixtures("impatient")
def test_a_worker_whose_driver_is_out_of_reach_for_a_moment_still_hears_of_it_and_says_so_once() -> None:
    signals = Flaky()
    with capture_logs() as logs:
        poller = SignalPoller(signals)
        signals.fails += [AWAY] * 3
        wait_until(lambda: not signals.fails)
        signals.actor.ask_to_stop()
        wait_until(lambda: poller.new_requests().stop)

    assert [entry["event"] for entry in logs] == ["signals.unreachable", "signals.reachable"]


@pytest.mark.usefixtures("impatient")
def test_a_worker_whose_driver_is_gone_says_that_it_hears_nothing_more() -> None:
    signals = Flaky()
    with capture_logs() as logs:
        SignalPoller(signals)
        signals.fails.append(ActorDiedError())
        wait_until(lambda: "signals.lost" in [entry["event"] for entry in logs])


@pytest.mark.usefixtures("impatient")
def test_a_wish_to_stop_is_passed_on_though_the_first_try_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    flaky, stop = Flaky(AWAY, AWAY), threading.Event()

    def ask_to_stop() -> None:
        flaky.fail()
        flaky.actor.ask_to_stop()

    monkeypatch.setattr(ray, "get", lambda call: call())
    Signals(SimpleNamespace(ask_to_stop=remote_call(ask_to_stop))).forward(stop)
    stop.set()

    wait_until(lambda: flaky.actor.read().stop)


@pytest.mark.usefixtures("impatient")
def test_a_wish_to_stop_that_nobody_can_hear_any_more_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    flaky, stop = Flaky(ActorDiedError()), threading.Event()
    monkeypatch.setattr(ray, "get", lambda call: call())
    with capture_logs() as logs:
        Signals(SimpleNamespace(ask_to_stop=remote_call(flaky.fail))).forward(stop)
        stop.set()
        wait_until(lambda: "stop.not_forwarded" in [entry["event"] for entry in logs])
