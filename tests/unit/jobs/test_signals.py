"""What a worker hears of what its driver and Ray Train's controller ask. The way over Ray: `e2e`, and `chaos`."""

from tests.support.waiting import wait_until
from workers.jobs.signals import Asked, Board, Listener


class Here:
    """The board in this process, without Ray between."""

    def __init__(self) -> None:
        self.board = Board()

    def read(self) -> Asked:
        return self.board.read()


def test_a_checkpoint_is_heard_of_once_and_not_by_workers_that_came_after_it_was_asked_for() -> None:
    signals = Here()
    signals.board.ask_for_checkpoint()
    listener = Listener(signals)
    assert not listener.heard().checkpoint

    signals.board.ask_for_checkpoint()
    heard = wait_until(lambda: (wishes := listener.heard()).checkpoint and wishes)

    assert not heard.stop
    assert not listener.heard().checkpoint
    signals.board.ask_to_stop()  # which ends the listening, too
    wait_until(lambda: listener.heard().stop)


def test_that_it_shall_stop_stays_heard_and_takes_no_checkpoint_back() -> None:
    signals = Here()
    listener = Listener(signals)

    signals.board.ask_for_checkpoint()
    signals.board.ask_to_stop()
    heard = [listener.heard()]

    def has_heard_to_stop() -> bool:
        heard.append(listener.heard())
        return heard[-1].stop

    wait_until(has_heard_to_stop)
    assert sum(wishes.checkpoint for wishes in heard) == 1
    assert listener.heard().stop
    assert Listener(signals).heard().stop, "workers that are restarted leave, too"
