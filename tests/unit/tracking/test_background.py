"""Delivery in the background: in order, again after failures, bounded, and never in the way."""

import threading

from workers.tracking.background import Background


def test_items_arrive_once_and_in_order() -> None:
    arrived: list[int] = []
    background = Background("test", arrived.extend, every_seconds=0.01)

    for number in range(2000):
        background.offer(number)

    assert background.close(10) == 0
    assert arrived == list(range(2000))


def test_a_failing_receiver_gets_the_same_items_again() -> None:
    tries: list[list[str]] = []

    def deliver(items: list[str]) -> None:
        tries.append(list(items))
        if len(tries) < 3:
            raise ConnectionError("away")

    background = Background("test", deliver, every_seconds=0.01)
    background.offer("row")

    assert background.close(10) == 0
    assert tries == [["row"]] * 3


def test_a_receiver_that_hangs_costs_its_sender_nothing_but_the_grace_at_the_end() -> None:
    released = threading.Event()
    background: Background[int] = Background("test", lambda items: released.wait(60) and None, capacity=10)

    for number in range(1000):
        background.offer(number)
    lost = background.close(0.05)

    assert lost >= 990  # at most `capacity` are kept, and the rest is counted
    released.set()


def test_a_receiver_that_never_recovers_is_given_up_at_the_end() -> None:
    def deliver(items: list[int]) -> None:
        raise ConnectionError("gone")

    background = Background("test", deliver, every_seconds=0.01)
    background.offer(1)

    assert background.close(0.1) == 1
