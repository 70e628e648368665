"""What a job has been through before the workers that begin now, and where their own time goes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workers.contract.keys import JobKeys
from workers.contract.records import Outcome, TimeBreakdown
from workers.storage.memory import MemoryStore
from workers.tracking.heartbeat import first_word
from workers.training.history import UNKNOWN_CODE, History, Timekeeper, codes_of, devices_of

KEYS = JobKeys("job_1")
SILENCE = timedelta(seconds=30)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def told(store: MemoryStore, attempt: int, *, phase: str = "training", num_workers: int = 2, **said: Any) -> None:
    """An attempt whose workers have said something, half a minute ago."""
    progress = first_word(1000, num_workers, phase=phase, updated_at=datetime.now(UTC) - SILENCE, **said)
    store.put(KEYS.attempt(attempt).progress, progress.model_dump_json().encode())


def ended(store: MemoryStore, attempt: int, status: str) -> None:
    outcome = {"status": status, "reason": None, "message": "", "images_seen": 0, "mlflow_run_id": None}
    document = Outcome.model_validate(outcome | {"ended_at": datetime.now(UTC)})
    store.put(KEYS.attempt(attempt).outcome, document.model_dump_json().encode())


def test_a_first_attempt_has_none(store: MemoryStore) -> None:
    assert History.read(store, KEYS, 1) == History()


def test_workers_go_on_from_what_those_before_them_spent(store: MemoryStore) -> None:
    told(store, 1, images_seen=500, ledger=TimeBreakdown(useful=30.0, recomputed=5.0, sampling=7.0))
    told(store, 2, images_seen=300, ledger=TimeBreakdown(useful=40.0, restarting=10.0))

    history = History.read(store, KEYS, 2)

    assert history.spent.useful == 40.0
    assert history.spent.restarting == pytest.approx(10 + 30, abs=5)
    assert (history.furthest, history.trained_seconds) == (500, 35.0)


def test_what_workers_did_since_their_last_account_counts_with_the_time_until_the_next_ones(
    store: MemoryStore,
) -> None:
    """A row that they never finished, or a step that never came: it is lost either way."""
    told(store, 1, ledger=TimeBreakdown(useful=40.0), ledger_at=datetime.now(UTC) - timedelta(minutes=5))

    assert History.read(store, KEYS, 1).spent.restarting == pytest.approx(300, abs=5)


def test_it_tells_on_what_else_images_beyond_a_checkpoint_were_trained(store: MemoryStore) -> None:
    told(store, 1, images_seen=500, device="A100")
    told(store, 2, images_seen=400, device="H100")
    told(store, 3, images_seen=0)

    history = History.read(store, KEYS, 3)

    assert history.other_device("H100", after=400) == "A100"
    assert history.other_device("H100", after=500) is None, "all of that is in the checkpoint"
    assert history.other_device("A100", after=300) == "H100"
    assert devices_of(store, KEYS) == {"A100", "H100"}


def test_it_tells_by_what_other_code_images_beyond_a_checkpoint_were_trained(store: MemoryStore) -> None:
    trained = TimeBreakdown(useful=30.0)
    told(store, 1, images_seen=500, versions={"torch": "9.1"}, ledger=trained)
    told(store, 2, images_seen=600, versions={"code": "abc"}, ledger=trained)
    told(store, 3, images_seen=700)

    history = History.read(store, KEYS, 4)

    assert history.other_code("abc", after=400) == UNKNOWN_CODE
    assert history.other_code("abc", after=500) is None
    assert history.other_code("def", after=500) == "abc"
    assert codes_of(store, KEYS) == {UNKNOWN_CODE, "abc"}


def test_code_that_trained_an_attempt_before_its_workers_restarted_counts(store: MemoryStore) -> None:
    told(store, 1, images_seen=500, versions={"code": "new"}, codes=("old", "new"))

    assert History.read(store, KEYS, 1).own_codes == ("old", "new")
    assert codes_of(store, KEYS) == {"old", "new"}


def test_code_that_has_trained_nothing_does_not_count(store: MemoryStore) -> None:
    told(store, 1, images_seen=500, versions={"code": "old"}, codes=("old",))
    told(store, 2, images_seen=400, versions={"code": "broken"})

    assert codes_of(store, KEYS) == {"old"}


def test_every_restart_and_every_lost_attempt_is_an_interruption(store: MemoryStore) -> None:
    told(store, 1, restarts=2)
    ended(store, 1, "failed")
    told(store, 3)  # the second was never begun, this one never ended

    between = History.read(store, KEYS, 4)
    told(store, 4, restarts=1)
    again = History.read(store, KEYS, 4)

    assert (between.restarts, between.interruptions) == (0, 4)
    assert (again.restarts, again.interruptions) == (2, 6)


def test_waiting_for_room_is_told_from_restarting_and_waiting_for_the_first_workers_is_no_restart(
    store: MemoryStore,
) -> None:
    told(store, 1, phase="waiting", ledger=TimeBreakdown(useful=30.0, restarting=60.0))
    again = History.read(store, KEYS, 1)
    told(store, 1, phase="waiting", num_workers=0)
    first = History.read(store, KEYS, 1)

    assert again.spent.restarting == 60.0
    assert again.spent.waiting == pytest.approx(30, abs=5)
    assert (again.restarts, first.restarts) == (1, 0)


def test_an_attempt_that_left_when_asked_to_was_not_interrupted(store: MemoryStore) -> None:
    told(store, 1, ledger=TimeBreakdown(useful=30.0))
    ended(store, 1, "stopped")

    assert History.read(store, KEYS, 2).interruptions == 0


def test_a_word_that_cannot_be_read_says_nothing(store: MemoryStore) -> None:
    store.put(KEYS.attempt(1).progress, b"{")

    assert History.read(store, KEYS, 2) == History()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_second_is_charged_to_one_cause() -> None:
    clock = Clock()
    keeper = Timekeeper(History(spent=TimeBreakdown(preparing=1), furthest=200), clock=clock)

    for seconds, cause in ((5.0, "preparing"), (2.0, "checkpointing"), (1.0, "sampling")):
        clock.now += seconds
        assert keeper.charge(cause) == seconds
    for seconds, seen in ((10.0, 200), (20.0, 300)):
        clock.now += seconds
        keeper.charge_training(seen)

    assert keeper.ledger == TimeBreakdown(preparing=6, checkpointing=2, sampling=1, recomputed=10, useful=20)
    assert sum(keeper.ledger.model_dump().values()) == clock.now + 1
