"""Delivery in the background: in order, again after failures, bounded, and never in the way."""

import os
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from tests.support.waiting import wait_until
from workers.tracking import background as module
from workers.tracking.background import Background
from workers.tracking.backlog import ItemBacklog
from workers.tracking.events import Event, Grid, Metrics, num_bytes

Items = list[str]
ROW_BYTES = num_bytes(Metrics(0, 1.0, {"loss/dsm": 0.5}))


class Receiver:
    """Refuses everything while it is away."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.arrived: list[Event] = []
        self.tries = 0

    def deliver(self, events: list[Event]) -> None:
        self.tries += 1
        if self.away:
            raise ConnectionError("away")
        self.arrived += events


def texts(deliver: Callable[[Items], object], **bounds: int) -> Background[str, Items]:
    backlog = ItemBacklog[str](len, **bounds)
    return Background("test", lambda items: deliver(items) and None, backlog, every_seconds=0.01)


def events(**bounds: int) -> ItemBacklog[Event]:
    return ItemBacklog(num_bytes, **bounds)


def test_items_arrive_once_and_in_order() -> None:
    arrived: Items = []
    background = texts(arrived.extend)
    items = [str(number) for number in range(2000)]

    for item in items:
        background.offer(item)

    assert background.close(10) == 0
    assert arrived == items


def test_who_cannot_wait_has_delivered_what_has_gathered() -> None:
    """Again and again, while an hour is between deliveries otherwise."""
    arrived: Items = []
    background = Background("test", lambda items: arrived.extend(items), ItemBacklog[str](len), every_seconds=3600.0)

    for round_ in range(20):
        for number in range(round_):
            background.offer(f"{round_}-{number}")
        assert background.flush(30)
        assert len(arrived) == sum(range(round_ + 1))
    assert background.close(10) == 0


def test_nobody_waits_for_a_failing_receiver_longer_than_said() -> None:
    receiver = Receiver(away=True)
    background = Background("test", receiver.deliver, events(), every_seconds=3600.0)
    background.offer(Metrics(1, 0.0, {}))

    assert not background.flush(0.1)
    assert not background.flush(0.1)

    assert receiver.tries <= 1, "it is not asked more often for that"
    background.close(0.01)


def test_a_failing_receiver_gets_the_same_items_again() -> None:
    tries: list[Items] = []

    def deliver(items: Items) -> None:
        tries.append(list(items))
        if len(tries) < 3:
            background.offer("later")
            raise ConnectionError("away")

    background = texts(deliver)
    background.offer("row")

    assert background.close(10) == 0
    assert tries == [["row"], ["row"], ["row"], ["later", "later"]]


def test_a_receiver_that_hangs_costs_its_sender_nothing_but_the_grace_at_the_end() -> None:
    released = threading.Event()
    background = texts(lambda _: released.wait(60), max_bytes=100)

    for number in range(1000):
        background.offer(str(number))
    lost = background.close(0.05)

    assert lost == 1000, "few are kept, the rest is counted, and all are lost in the end"
    released.set()


def test_a_receiver_that_never_recovers_is_given_up_at_the_end() -> None:
    receiver = Receiver(away=True)
    background = Background("test", receiver.deliver, events(), every_seconds=0.01)
    background.offer(Metrics(1, 1.0, {}))

    assert background.close(0.1) == 1


def test_an_hour_without_a_receiver_costs_only_a_delay() -> None:
    """Fifty rows a second, and a picture a minute."""
    receiver = Receiver(away=True)
    background = Background("test", receiver.deliver, events(), every_seconds=0.01)
    hour: list[Event] = []
    for row in range(180_000):
        hour.append(Metrics(64 * row, 1_800_000_000 + row / 50, {"loss/dsm": 1 / (row + 1), "speed": 0.1 * row}))
        if row % 3000 == 0:
            hour.append(Grid(64 * row, 1_800_000_000 + row / 50, os.urandom(100_000)))

    for event in hour:
        background.offer(event)
    assert receiver.arrived == []
    receiver.away = False

    assert background.close(60) == 0
    assert receiver.arrived == hour


def test_a_backlog_that_is_full_costs_the_oldest_and_is_said_once() -> None:
    receiver = Receiver(away=True)
    background = Background("test", receiver.deliver, events(max_bytes=100 * ROW_BYTES), every_seconds=0.01)
    rows: list[Event] = [Metrics(row, 1.0, {"loss/dsm": 0.5}) for row in range(1000)]
    background.offer(rows[0])
    wait_until(lambda: receiver.tries)  # with this one: those that follow wait

    with capture_logs() as logs:
        for row in rows[1:]:
            background.offer(row)
        receiver.away = False
        wait_until(lambda: any(line["event"] == "tracking.dropped" for line in logs))

    said = [line for line in logs if line["event"].startswith("tracking.drop")]
    assert [line["event"] for line in said] == ["tracking.dropping", "tracking.dropped"]
    assert said[-1]["items"] == 899
    assert receiver.arrived == [rows[0], *rows[-100:]]
    assert background.close(10) == 899


def test_a_whole_batch_does_not_wait_for_more() -> None:
    arrived: Items = []
    background = Background("test", lambda items: arrived.extend(items), ItemBacklog[str](len), every_seconds=3600.0)
    background.offer("first")
    wait_until(lambda: arrived)

    for number in range(500):
        background.offer(str(number))

    wait_until(lambda: len(arrived) == 501)
    assert background.close(10) == 0


def test_a_receiver_is_behind_from_its_first_failure_on_until_it_takes_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver = Receiver(away=True)
    background = Background("test", receiver.deliver, events(), every_seconds=0.01)
    background.offer(Metrics(1, 1.0, {}))
    wait_until(lambda: receiver.tries > 1)
    assert background.behind() is None, "not for a moment's failure"

    monkeypatch.setattr(module, "_BEHIND_AFTER", timedelta(0))
    background.offer(Metrics(2, 1.0, {}))
    first, later = background.behind(), wait_until(background.behind)
    assert first
    assert (first.waiting, first.since) == (2, later.since)

    receiver.away = False
    wait_until(lambda: len(receiver.arrived) == 2)
    wait_until(lambda: background.behind() is None)
    assert background.close(10) == 0
