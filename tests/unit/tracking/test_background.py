"""Delivery in the background: in order, again after failures, bounded, and never in the way."""

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.spools import event_spool, open_files_in, text_spool
from tests.support.waiting import wait_until
from workers.tracking import background as module
from workers.tracking.background import Background
from workers.tracking.events import Event, Grid, Metrics

Items = list[str]


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


def texts(folder: Path, deliver: Callable[[Items], object], **bounds: int) -> Background[str]:
    return Background("test", lambda items: deliver(items) and None, text_spool(folder, **bounds), every_seconds=0.01)


def test_items_arrive_once_and_in_order(tmp_path: Path) -> None:
    arrived: Items = []
    background = texts(tmp_path, arrived.extend)
    items = [str(number) for number in range(2000)]

    for item in items:
        background.offer(item)

    assert background.close(10) == 0
    assert arrived == items


def test_who_cannot_wait_has_delivered_what_has_gathered(tmp_path: Path) -> None:
    """Again and again, while an hour is between deliveries otherwise."""
    arrived: Items = []
    background = Background("test", lambda items: arrived.extend(items), text_spool(tmp_path), every_seconds=3600.0)

    for round_ in range(20):
        for number in range(round_):
            background.offer(f"{round_}-{number}")
        assert background.flush(30)
        assert len(arrived) == sum(range(round_ + 1))
    assert background.close(10) == 0


def test_nobody_waits_for_a_failing_receiver_longer_than_said(tmp_path: Path) -> None:
    receiver = Receiver(away=True)
    background = Background("test", receiver.deliver, event_spool(tmp_path), every_seconds=3600.0)
    background.offer(Metrics(1, 0.0, {}))

    assert not background.flush(0.1)
    assert not background.flush(0.1)

    assert receiver.tries <= 1, "it is not asked more often for that"
    background.close(0.01)


def test_a_failing_receiver_gets_the_same_items_again(tmp_path: Path) -> None:
    tries: list[Items] = []

    def deliver(items: Items) -> None:
        tries.append(list(items))
        if len(tries) < 3:
            background.offer("later")
            raise ConnectionError("away")

    background = texts(tmp_path, deliver)
    background.offer("row")

    assert background.close(10) == 0
    assert tries == [["row"], ["row"], ["row"], ["later", "later"]]


def test_a_receiver_that_hangs_costs_its_sender_nothing_but_the_grace_at_the_end(tmp_path: Path) -> None:
    released = threading.Event()
    background = texts(tmp_path, lambda _: released.wait(60), memory_bytes=10, disk_bytes=100)

    for number in range(1000):
        background.offer(str(number))
    lost = background.close(0.05)

    assert lost == 1000, "few are kept, the rest is counted, and all are lost in the end"
    assert open_files_in(tmp_path) == 0
    released.set()


def test_a_receiver_that_never_recovers_is_given_up_at_the_end(tmp_path: Path) -> None:
    receiver = Receiver(away=True)
    background = Background("test", receiver.deliver, event_spool(tmp_path), every_seconds=0.01)
    background.offer(Metrics(1, 1.0, {}))

    assert background.close(0.1) == 1


def test_an_hour_without_a_receiver_costs_only_a_delay(tmp_path: Path) -> None:
    """Fifty rows a second, and a picture a minute."""
    receiver = Receiver(away=True)
    background = Background("test", receiver.deliver, event_spool(tmp_path), every_seconds=0.01)
    hour: list[Event] = []
    for row in range(180_000):
        hour.append(Metrics(64 * row, 1_800_000_000 + row / 50, {"loss/dsm": 1 / (row + 1), "speed": 0.1 * row}))
        if row % 3000 == 0:
            hour.append(Grid(64 * row, 1_800_000_000 + row / 50, os.urandom(100_000)))

    for event in hour:
        background.offer(event)
    assert receiver.arrived == []
    assert open_files_in(tmp_path) == 1, "what waits is on disk"
    receiver.away = False

    assert background.close(60) == 0
    assert receiver.arrived == hour
    assert open_files_in(tmp_path) == 0


def test_a_full_disk_costs_what_finds_no_room_and_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver(away=True)
    background = Background("test", receiver.deliver, event_spool(tmp_path, memory_bytes=1000), every_seconds=0.01)
    rows: list[Event] = [Metrics(row, 1.0, {"loss/dsm": 0.5}) for row in range(1000)]

    with capture_logs() as logs:
        with monkeypatch.context() as full:
            full.setattr(os, "pwrite", no_room)
            for row in rows[:900]:
                background.offer(row)
        for row in rows[900:]:
            background.offer(row)
        receiver.away = False
        wait_until(lambda: any(line["event"] == "tracking.dropped" for line in logs))

    said = {line["event"]: line for line in logs if line["event"].startswith("tracking.drop")}
    dropped = said["tracking.dropped"]["items"]
    assert len([line for line in logs if line["event"] == "tracking.dropping"]) == 1
    assert "No space left" in said["tracking.dropping"]["error"]
    assert 0 < dropped < 900
    assert receiver.arrived == [row for row in rows if row in receiver.arrived], "once each, in order"
    assert len(receiver.arrived) == 1000 - dropped
    assert receiver.arrived[-100:] == rows[900:]
    assert background.close(10) == dropped


def test_a_folder_that_cannot_be_written_is_no_more_than_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    receiver = Receiver(away=True)
    spool = event_spool(tmp_path / "file" / "below", memory_bytes=1000)
    background = Background("test", receiver.deliver, spool, every_seconds=0.01)

    for row in range(100):
        background.offer(Metrics(row, 1.0, {}))
    receiver.away = False

    dropped = background.close(10)
    assert 0 < dropped < 100
    assert len(receiver.arrived) == 100 - dropped


def test_a_disk_that_cannot_be_read_costs_what_was_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver(away=True)
    background = Background("test", receiver.deliver, event_spool(tmp_path, memory_bytes=1), every_seconds=0.01)
    background.offer(Metrics(0, 1.0, {}))
    wait_until(lambda: receiver.tries)  # with this one: those that follow wait
    for row in range(1, 100):
        background.offer(Metrics(row, 1.0, {}))

    with monkeypatch.context() as broken:
        broken.setattr(os, "pread", lambda *_: b"")
        receiver.away = False
        wait_until(lambda: open_files_in(tmp_path) == 0)
    background.offer(Metrics(100, 1.0, {}))

    assert background.close(10) == 99
    assert receiver.arrived == [Metrics(0, 1.0, {}), Metrics(100, 1.0, {})]


def test_a_receiver_is_behind_from_its_first_failure_on_until_it_takes_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver(away=True)
    background = Background("test", receiver.deliver, event_spool(tmp_path), every_seconds=0.01)
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


def no_room(*_: object) -> int:
    raise OSError(28, "No space left on device")
