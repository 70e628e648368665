"""Old checkpoints make room for new ones; those that a fork starts from stay, whoever comes first."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.specs import smoke_spec
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.spec import TrainSpec
from workers.storage.job_folder import committed_checkpoints
from workers.storage.memory import MemoryStore
from workers.training.checkpoint import FencedError, save_checkpoint
from workers.training.retention import remove_old_checkpoints
from workers.training.snapshot import Snapshot

KEYS = JobKeys("job_1")


def spec(**cadence: Any) -> TrainSpec:
    return smoke_spec(batch_images=16, cadence={"log_images": 16, "checkpoint_images": 24} | cadence)


class Checkpoints(MemoryStore):
    """A store with checkpoints, two files each, of attempt 1."""

    def __init__(self, *images_seen: int) -> None:
        super().__init__()
        for seen in images_seen:
            self.commit(seen)

    def commit(self, images_seen: int, attempt: int = 1) -> None:
        self.upload(images_seen, attempt)
        self.put(KEYS.checkpoint(images_seen, attempt) + MANIFEST, b"{}")

    def upload(self, images_seen: int, attempt: int = 1) -> None:
        self.put(KEYS.checkpoint(images_seen, attempt) + "network.safetensors", b"weights")

    def pin(self, images_seen: int, attempt: int = 1) -> None:
        self.put(KEYS.pin(images_seen, attempt), b"")

    @property
    def left(self) -> dict[int, int]:
        """The number of files by images seen."""
        places = [KEYS.of_checkpoint(key.rpartition("/")[0])[0] for key in self.list(KEYS.checkpoints)]
        return {seen: places.count(seen) for seen in places}


def test_all_stay_unless_the_spec_says_otherwise() -> None:
    store = Checkpoints(32, 48, 80)
    store.upload(96)

    remove_old_checkpoints(store, KEYS, spec(), attempt=1, images_seen=1000)

    assert store.left == {32: 2, 48: 2, 80: 2, 96: 1}


def test_the_newest_stay_whatever_attempt_wrote_them() -> None:
    store = Checkpoints(32, 48)
    store.commit(48, attempt=2)
    store.commit(80, attempt=2)

    remove_old_checkpoints(store, KEYS, spec(keep_last=2), attempt=2, images_seen=1000)

    assert store.left == {48: 2, 80: 2}
    assert store.list(KEYS.checkpoint(48, 2))


def test_the_first_beyond_each_multiple_stays() -> None:
    store = Checkpoints(32, 48, 80, 88, 96, 128, 144, 160, 176, 192)

    remove_old_checkpoints(store, KEYS, spec(keep_last=1, keep_every_images=72), attempt=1, images_seen=1000)

    assert store.left == {80: 2, 144: 2, 192: 2}


def test_a_pinned_one_stays() -> None:
    store = Checkpoints(32, 48, 80)
    store.pin(32)

    remove_old_checkpoints(store, KEYS, spec(keep_last=1), attempt=1, images_seen=1000)

    assert store.left == {32: 2, 80: 2}


def test_one_that_another_job_looks_at_stays_until_it_is_done() -> None:
    store = Checkpoints(32, 48, 80)
    pin = KEYS.pin(32, 1, "job_2")
    store.put(pin, b"")

    remove_old_checkpoints(store, KEYS, spec(keep_last=1), attempt=1, images_seen=1000)
    kept = store.left
    store.delete(pin)
    remove_old_checkpoints(store, KEYS, spec(keep_last=1), attempt=1, images_seen=1000)

    assert (kept, store.left) == ({32: 2, 80: 2}, {80: 2})


def test_one_that_is_pinned_while_it_goes_stays() -> None:
    class PinnedLate(Checkpoints):
        def delete(self, key: str) -> None:
            super().delete(key)
            self.pin(32)

    store = PinnedLate(32, 48, 80)

    remove_old_checkpoints(store, KEYS, spec(keep_last=1), attempt=1, images_seen=1000)

    assert store.left == {32: 2, 80: 2}


def test_one_whose_removal_was_cut_short_is_gone_for_good() -> None:
    store = Checkpoints(32, 48)
    store.delete(KEYS.checkpoint(32, 1) + MANIFEST)

    remove_old_checkpoints(store, KEYS, spec(keep_last=2), attempt=1, images_seen=1000)

    assert store.left == {48: 2}


def test_uploads_that_died_go_but_not_those_of_a_later_attempt() -> None:
    store = Checkpoints(32)
    store.upload(48, attempt=1)
    store.upload(48, attempt=3)

    remove_old_checkpoints(store, KEYS, spec(keep_last=1), attempt=2, images_seen=1000)

    assert store.left == {32: 2, 48: 1}
    assert store.list(KEYS.checkpoint(48, 3))


@pytest.mark.parametrize("failing", range(1, 12))
def test_cut_short_anywhere_and_done_again_it_comes_to_the_same(failing: int) -> None:
    class Failing(Checkpoints):
        calls = 0

        def delete(self, key: str) -> None:
            self.calls += 1
            if self.calls == failing:
                raise ConnectionError("the store is away")
            super().delete(key)

    store = Failing(32, 48, 80, 96)
    for _ in range(2):
        try:
            remove_old_checkpoints(store, KEYS, spec(keep_last=2), attempt=1, images_seen=1000)
        except ConnectionError:
            assert {80, 96} <= set(store.left)

    remove_old_checkpoints(store, KEYS, spec(keep_last=2), attempt=1, images_seen=1000)
    assert store.left == {80: 2, 96: 2}


def test_a_damaged_one_that_is_ahead_costs_no_other_its_place() -> None:
    """Training went on from 48, for 144 cannot be read, and has just committed 80."""
    store = Checkpoints(32, 48, 80, 144)

    remove_old_checkpoints(store, KEYS, spec(keep_last=2), attempt=1, images_seen=80)

    assert store.left == {48: 2, 80: 2, 144: 2}


def test_two_groups_of_one_attempt_leave_no_checkpoint_that_lacks_a_file() -> None:
    """The engine has lost sight of one, and started another: each takes for dead what the other has under way."""

    class Overtaken(Snapshot):
        def files(self) -> Iterator[tuple[str, bytes]]:
            yield "network.safetensors", b"weights"
            saved(other)
            yield "state.json", b"{}"

    class Whole(Snapshot):
        def files(self) -> Iterator[tuple[str, bytes]]:
            yield "network.safetensors", b"weights"

    def saved(snapshot: Snapshot) -> None:
        save_checkpoint(snapshot, store, KEYS, attempt=1, spec_sha256="0" * 64)
        remove_old_checkpoints(store, KEYS, spec(keep_last=2), attempt=1, images_seen=snapshot.images_seen)

    store, one, other = MemoryStore(), Overtaken(), Whole()
    one.images_seen, other.images_seen = 48, 80

    with pytest.raises(FileNotFoundError, match=r"network\.safetensors"):
        saved(one)

    assert committed_checkpoints(store, KEYS) == [KEYS.checkpoint(80, 1)]


def test_an_attempt_that_is_superseded_while_it_uploads_commits_nothing() -> None:
    class Superseded(Snapshot):
        images_seen = 48

        def files(self) -> Iterator[tuple[str, bytes]]:
            yield "network.safetensors", b"weights"
            store.put(KEYS.attempt(2).claim, b"{}")

    store = MemoryStore()

    with pytest.raises(FencedError):
        save_checkpoint(Superseded(), store, KEYS, attempt=1, spec_sha256="0" * 64)

    assert committed_checkpoints(store, KEYS) == []
