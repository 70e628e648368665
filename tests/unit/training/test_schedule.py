"""When the next checkpoint pays."""

import math
from dataclasses import dataclass

import pytest

from workers.contract.records import TimeBreakdown
from workers.training.history import History
from workers.training.schedule import CheckpointSchedule

DAY = 86_400.0


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_advised_before_something_is_measured(clock: Clock) -> None:
    schedule = CheckpointSchedule(History(), clock=clock)

    schedule.paid(1.0)
    assert schedule.interval(TimeBreakdown()) is None

    schedule.written(2.0)
    assert schedule.interval(TimeBreakdown()) == pytest.approx(math.sqrt(2 * 1.0 * DAY))


def test_the_first_is_due_after_half_a_minute_and_the_next_when_it_pays(clock: Clock) -> None:
    schedule = CheckpointSchedule(History(), clock=clock)
    due = []

    for _ in range(1000):
        clock.now += 1.0
        if schedule.is_due(TimeBreakdown()):
            due.append(clock.now - 1000.0)
            schedule.paid(1.0)
            schedule.written(1.0)

    assert due == [30.0, 30.0 + 416.0, 30.0 + 2 * 416.0]  # the root of two days is 415.7


def test_one_that_was_unusual_changes_nothing(clock: Clock) -> None:
    schedule = CheckpointSchedule(History(), clock=clock)
    for cost, writing in ((9.0, 5.0), (1.0, 5.0), (1.0, 5000.0), (1.0, 5.0)):
        schedule.paid(cost)
        schedule.written(writing)

    assert schedule.interval(TimeBreakdown()) == pytest.approx(math.sqrt(2 * 1.0 * DAY))


def test_only_the_latest_count(clock: Clock) -> None:
    schedule = CheckpointSchedule(History(), clock=clock)
    schedule.written(1.0)
    for cost in (9.0,) * 100 + (1.0,) * 5:
        schedule.paid(cost)

    assert schedule.interval(TimeBreakdown()) == pytest.approx(math.sqrt(2 * 1.0 * DAY))


def test_a_job_that_is_often_interrupted_is_saved_more_often(clock: Clock) -> None:
    history = History(trained_seconds=DAY / 2, interruptions=7)
    schedule = CheckpointSchedule(history, clock=clock)
    schedule.paid(1.0)
    schedule.written(1.0)

    interval = schedule.interval(TimeBreakdown(useful=DAY / 4, recomputed=DAY / 4, preparing=1e9))

    assert interval == pytest.approx(math.sqrt(2 * 1.0 * 2 * DAY / 8))
