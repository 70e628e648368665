"""The record of metrics in the object store."""

import json

import pytest

from workers.contract.keys import JobKeys
from workers.storage.memory import MemoryStore
from workers.tracking.events import Checkpointed, Event, Grid, Metrics
from workers.tracking.journal import Journal, recorded_rows

KEYS = JobKeys("job_1")


def rows(store: MemoryStore) -> list[dict[str, float]]:
    chunks = [store.get(key).decode() for key in store.list(KEYS.attempt(1).metrics)]
    return [json.loads(line) for chunk in chunks for line in chunk.splitlines()]


def test_rows_and_pictures_are_kept_and_workers_that_restart_go_on_behind_them() -> None:
    store = MemoryStore()
    events: list[Event] = [Metrics(64, 10.0, {"loss/dsm": 0.5}), Checkpointed(64, "x"), Grid(64, 10.0, b"png")]

    Journal(store, KEYS, 1).deliver(events)
    restarted = Journal(store, KEYS, 1)
    restarted.deliver([Metrics(128, 11.0, {"loss/dsm": 0.4})])

    assert rows(store) == [
        {"images_seen": 64, "time": 10.0, "loss/dsm": 0.5},
        {"images_seen": 128, "time": 11.0, "loss/dsm": 0.4},
    ]
    assert store.get(KEYS.sample(64)) == b"png"


def test_a_worker_that_lives_on_behind_those_that_restarted_overwrites_no_row_and_loses_none() -> None:
    store = MemoryStore()
    old, new = Journal(store, KEYS, 1), Journal(store, KEYS, 1)
    told: list[tuple[Journal, int]] = [(old, 64), (new, 128), (old, 65), (old, 66), (new, 192), (new, 256), (old, 67)]

    for journal, seen in told:
        journal.deliver([Metrics(seen, 10.0, {"loss/dsm": 0.5})])

    assert [row["images_seen"] for row in rows(store)] == [seen for _, seen in told]


class LostAnswers(MemoryStore):
    """Takes what it is given, and is then cut off, while `is_cut`."""

    is_cut = True

    def put_if_absent(self, key: str, data: bytes) -> bool:
        is_first = super().put_if_absent(key, data)
        if self.is_cut:
            raise ConnectionError("cut off")
        return is_first


def test_rows_whose_arrival_was_not_heard_of_are_not_written_again() -> None:
    store, batch = LostAnswers(), list[Event]([Metrics(64, 10.0, {"loss/dsm": 0.5})])
    journal = Journal(store, KEYS, 1)

    with pytest.raises(ConnectionError):
        journal.deliver(batch)
    store.is_cut = False
    journal.deliver(batch)
    journal.deliver([Metrics(128, 11.0, {"loss/dsm": 0.4})])

    assert [row["images_seen"] for row in rows(store)] == [64, 128]


def test_a_superseded_attempt_leaves_the_pictures_alone() -> None:
    store = MemoryStore()
    store.put(KEYS.attempt(2).claim, b"{}")
    store.put(KEYS.sample(64), b"of attempt 2")

    Journal(store, KEYS, 1).deliver([Grid(64, 10.0, b"of attempt 1"), Grid(128, 11.0, b"of attempt 1")])

    assert store.list(KEYS.samples) == [KEYS.sample(64)]
    assert store.get(KEYS.sample(64)) == b"of attempt 2"


def test_what_was_trained_beyond_a_checkpoint_is_found_behind_late_words_of_the_checkpoint() -> None:
    store, early = MemoryStore(), {"loss/dsm": 0.5}
    journal = Journal(store, KEYS, 1)
    for seen, values in ((64, early), (128, early), (192, early), (128, {"time/checkpoint_seconds": 9.0})):
        journal.deliver([Metrics(seen, 10.0, values)])
    Journal(store, KEYS, 1).deliver([Metrics(192, 11.0, {"loss/dsm": 0.4})])  # workers that restarted

    found = recorded_rows(store, KEYS, after=64)

    assert {seen: row["loss/dsm"] for seen, row in found.items()} == {128: 0.5, 192: 0.4}


def test_rows_of_another_release_that_cannot_be_read_are_left_out() -> None:
    store = MemoryStore()
    Journal(store, KEYS, 1).deliver([Metrics(64, 10.0, {"loss/dsm": 0.5})])
    store.put(KEYS.attempt(1).metrics_chunk(1), b'{"steps": 2, "time": 11.0, "loss/dsm": 0.4}\n')

    found = recorded_rows(store, KEYS, after=0)

    assert found == {64: {"time": 10.0, "loss/dsm": 0.5}}
