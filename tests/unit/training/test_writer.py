"""Checkpoints are written beside training, and an object store that is away holds up nobody."""

import threading
from collections.abc import Iterator
from errno import EACCES
from pathlib import Path

import pytest
import torch

from tests.support.images import imported
from tests.support.specs import smoke_spec
from workers.contract.keys import JobKeys
from workers.data import ImageSet
from workers.storage.memory import MemoryStore
from workers.training import writer as writing
from workers.training.checkpoint import FencedError, restore_latest, save_checkpoint
from workers.training.snapshot import Snapshot
from workers.training.state import TrainState, new_state
from workers.training.step import Trainer
from workers.training.world import World
from workers.training.writer import CheckpointNotTakenError, CheckpointWriter

CPU = torch.device("cpu")
KEYS = JobKeys("job_1")
PATIENCE_SECONDS = 30.0
SPEC = smoke_spec(duration_images=96)


class Guarded:
    """Saves into a store, but only while the gate is open; knows what was tried and what was told."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.is_open, self.tried = threading.Event(), threading.Event()
        self.failure: Exception = ConnectionError("the store is away")
        self.told: list[int] = []
        self.writer = CheckpointWriter(self.save, told=lambda seen, _: self.told.append(seen))

    def save(self, snapshot: Snapshot) -> None:
        self.tried.set()
        if not self.is_open.is_set():
            raise self.failure
        save_checkpoint(snapshot, self.store, KEYS, attempt=1, spec_sha256="0" * 64)


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    monkeypatch.setattr(writing, "_FIRST_PAUSE_SECONDS", 0.01)
    guarded = Guarded()
    yield guarded
    guarded.writer.close(0.0)


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return imported(SPEC.dataset, tmp_path)


def trained(state: TrainState, images: ImageSet, *, until: int) -> TrainState:
    for step in Trainer(state, images, SPEC, World.alone(CPU)).steps():
        if step.images_seen >= until:
            break
    return state


def test_training_goes_on_while_a_checkpoint_is_written_and_does_not_change_it(
    guarded: Guarded, images: ImageSet
) -> None:
    state = trained(new_state(SPEC, images.manifest, CPU), images, until=32)
    then = Snapshot.of(state)

    guarded.writer.offer(state)
    guarded.tried.wait(PATIENCE_SECONDS)
    trained(state, images, until=64)
    guarded.is_open.set()
    guarded.writer.settle(PATIENCE_SECONDS)

    restored = new_state(SPEC, images.manifest, CPU)
    restore_latest(restored, guarded.store, KEYS)
    assert guarded.told == [32]
    assert dict(Snapshot.of(restored).files()) == dict(then.files())
    assert dict(Snapshot.of(state).files()) != dict(then.files())


def test_while_one_is_being_written_the_next_is_left_out_and_the_one_after_is_taken(
    guarded: Guarded, images: ImageSet
) -> None:
    state = new_state(SPEC, images.manifest, CPU)

    guarded.writer.offer(state)
    guarded.writer.offer(state)
    guarded.is_open.set()
    guarded.writer.settle(PATIENCE_SECONDS)
    guarded.writer.offer(trained(state, images, until=16))
    guarded.writer.settle(PATIENCE_SECONDS)

    assert guarded.told == [0, 16]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ConnectionError("the store is away"), "ConnectionError: the store is away"),
        (PermissionError(EACCES, "access is denied", "jobs/1/x"), "access is denied: jobs/1/x; give the workers"),
    ],
)
def test_a_store_that_takes_nothing_is_named_by_whoever_cannot_go_on_without_it(
    guarded: Guarded, images: ImageSet, failure: Exception, words: str
) -> None:
    guarded.failure = failure
    guarded.writer.offer(new_state(SPEC, images.manifest, CPU))
    guarded.tried.wait(PATIENCE_SECONDS)

    with pytest.raises(CheckpointNotTakenError, match=rf"at 0 images within .*: {words}"):
        guarded.writer.settle(0.1)


def test_what_is_no_fault_of_the_store_is_not_tried_again(guarded: Guarded, images: ImageSet) -> None:
    guarded.failure = ZeroDivisionError("a mistake of ours")

    guarded.writer.offer(new_state(SPEC, images.manifest, CPU))

    with pytest.raises(ZeroDivisionError):
        guarded.writer.settle(PATIENCE_SECONDS)


def test_a_superseded_attempt_learns_of_it_and_writes_nothing(guarded: Guarded, images: ImageSet) -> None:
    guarded.failure = FencedError("attempt 1 has been superseded")

    guarded.writer.offer(new_state(SPEC, images.manifest, CPU))
    guarded.writer.settle(PATIENCE_SECONDS)

    assert guarded.writer.fenced
    assert guarded.store.list("") == []


def test_a_checkpoint_that_cannot_be_told_of_is_a_failure_and_the_next_is_not_left_out_for_ever(
    guarded: Guarded, images: ImageSet
) -> None:
    def told(images_seen: int, seconds: float) -> None:
        raise OSError("the log's disk is full")

    writer, state = CheckpointWriter(guarded.save, told=told), new_state(SPEC, images.manifest, CPU)
    guarded.is_open.set()

    writer.offer(state)
    with pytest.raises(OSError, match="the log's disk is full"):
        writer.settle(PATIENCE_SECONDS)

    assert writer.is_idle
    with pytest.raises(OSError, match="the log's disk is full"):
        writer.offer(state)
    writer.close(0.0)


def test_a_copy_of_what_lies_on_the_cpu_touches_no_gpu(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks a GPU for anything makes a context there: hundreds of MiB of what may be another job's."""
    touched: list[object] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", touched.append)

    Snapshot.of(trained(new_state(SPEC, images.manifest, CPU), images, until=16))

    assert touched == []
