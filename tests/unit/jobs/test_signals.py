"""What a worker hears of what its driver and Ray Train's controller ask. The way over Ray: `e2e`, and `chaos`."""

from tests.support.waiting import wait_until
from workers.jobs.signals import Asked, SignalActor, SignalPoller


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
