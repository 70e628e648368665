"""Where the time of an attempt went."""

from datetime import UTC, datetime, timedelta

import pytest

from workers.contract.keys import JobKeys
from workers.contract.records import Ledger
from workers.storage.memory import MemoryStore
from workers.tracking.heartbeat import Status, progress_of
from workers.training.timekeeping import Timekeeper, resumed_timekeeper

KEYS = JobKeys("job_1")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_second_is_charged_to_one_cause() -> None:
    clock = Clock()
    keeper = Timekeeper(Ledger(), furthest=200, clock=clock)

    for seconds, cause in ((5.0, "preparing"), (2.0, "checkpointing"), (1.0, "sampling")):
        clock.now += seconds
        keeper.charge(cause)
    for seconds, seen in ((10.0, 200), (20.0, 300)):
        clock.now += seconds
        keeper.charge_training(seen)

    assert keeper.ledger == Ledger(preparing=5, checkpointing=2, sampling=1, recomputed=10, useful=20)
    assert sum(keeper.ledger.model_dump().values()) == clock.now


def test_workers_go_on_from_what_those_before_them_spent() -> None:
    store, silence = MemoryStore(), timedelta(seconds=30)
    for attempt, seen in ((1, 500), (2, 300)):
        progress = progress_of(Status(1000, 2, images_seen=seen, ledger=Ledger(useful=40.0)))
        told = progress.model_copy(update={"updated_at": datetime.now(UTC) - silence})
        store.put(KEYS.attempt(attempt).progress, told.model_dump_json().encode())

    keeper = resumed_timekeeper(store, KEYS, 2)
    keeper.charge_training(400)

    assert keeper.ledger.useful == 40.0
    assert keeper.ledger.restarting == pytest.approx(30, abs=5)
    assert 0 < keeper.ledger.recomputed < 5  # the first attempt had been at 500


def test_a_first_attempt_has_spent_nothing() -> None:
    assert resumed_timekeeper(MemoryStore(), KEYS, 1).ledger == Ledger()
