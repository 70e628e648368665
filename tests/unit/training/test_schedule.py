"""When the next checkpoint pays, and how far apart they had best be."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.contract.records import TimeBreakdown
from workers.training.history import History
from workers.training.schedule import (
    LEAST_SECONDS,
    MOST_SECONDS,
    CheckpointSchedule,
    checkpoint_interval,
    in_images,
    mean_time_to_interrupt,
    young_daly,
)

DAY = 86_400.0
MINUTE, HOUR = 60.0, 3600.0
costs = st.floats(0, 1e4)
means = st.floats(1, 1e9)


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


@pytest.mark.parametrize(("mean_hours", "published_minutes"), [(24, 117), (6, 57)])
def test_it_is_near_the_optimum_that_daly_published(mean_hours: float, published_minutes: float) -> None:
    """Figures 3 and 4 of the paper: five minutes for a checkpoint."""
    interval = young_daly(cost_seconds=5 * MINUTE, mtti_seconds=mean_hours * HOUR)

    assert interval == pytest.approx(published_minutes * MINUTE, rel=0.06)


@given(cost=st.floats(0.01, 1e3), mean=st.floats(1e3, 1e8), factor=st.floats(0.1, 10))
def test_no_other_interval_loses_less(cost: float, mean: float, factor: float) -> None:
    """To first order: what checkpoints take of each second, and half an interval lost at each interruption."""

    def lost(interval: float) -> float:
        return cost / interval + interval / (2 * mean)

    best = young_daly(cost_seconds=cost, mtti_seconds=mean)

    assert lost(best) <= lost(best * factor) * (1 + 1e-12)


@given(costs=st.tuples(costs, costs), writing=costs, mean=means)
def test_the_dearer_a_checkpoint_the_rarer(costs: tuple[float, float], writing: float, mean: float) -> None:
    cheap, dear = (
        checkpoint_interval(cost_seconds=cost, writing_seconds=writing, mtti_seconds=mean) for cost in sorted(costs)
    )

    assert cheap <= dear


@given(means=st.tuples(means, means), writing=costs, cost=costs)
def test_the_rarer_an_interruption_the_rarer(means: tuple[float, float], writing: float, cost: float) -> None:
    often, seldom = (
        checkpoint_interval(cost_seconds=cost, writing_seconds=writing, mtti_seconds=mean) for mean in sorted(means)
    )

    assert often <= seldom


@given(cost=costs, writing=costs, mean=means)
def test_it_is_sensible_and_never_shorter_than_writing_takes(cost: float, writing: float, mean: float) -> None:
    interval = checkpoint_interval(cost_seconds=cost, writing_seconds=writing, mtti_seconds=mean)

    assert max(LEAST_SECONDS, writing) <= interval <= max(MOST_SECONDS, writing)


def test_one_interruption_a_day_is_assumed_and_gives_way_to_what_is_seen() -> None:
    assert mean_time_to_interrupt(trained_seconds=0, interruptions=0) == 24 * HOUR
    assert mean_time_to_interrupt(trained_seconds=24 * HOUR, interruptions=1) == 24 * HOUR
    assert mean_time_to_interrupt(trained_seconds=1000 * HOUR, interruptions=1000) == pytest.approx(HOUR, rel=0.03)


@given(seconds=st.floats(0, 1e5), rate=st.floats(1e-3, 1e5), batch=st.integers(1, 4096))
def test_in_images_it_is_whole_batches_and_within_half_of_one(seconds: float, rate: float, batch: int) -> None:
    images = in_images(seconds, rate=rate, batch_images=batch)

    assert images % batch == 0 < images
    assert images == batch or abs(images - seconds * rate) <= batch / 2 * (1 + 1e-9)
