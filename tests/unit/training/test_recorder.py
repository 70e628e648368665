"""What the first process of a run writes beside training."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.images import imported
from tests.support.specs import smoke_spec
from workers.contract.keys import MANIFEST, JobKeys
from workers.storage.memory import MemoryStore
from workers.training import recorder as recording
from workers.training.history import History, Timekeeper
from workers.training.recorder import RunRecorder
from workers.training.run import Run
from workers.training.state import TrainState, new_state
from workers.training.world import World

CPU = torch.device("cpu")
SPEC = smoke_spec()
KEYS = JobKeys("job_1")
PATIENCE_SECONDS = 30.0


class Slow(MemoryStore):
    """Takes checkpoints only while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.is_open = threading.Event(), threading.Event()

    def put(self, key: str, data: bytes | memoryview) -> None:
        if key.startswith(KEYS.checkpoints):
            self.is_asked.set()
            self.is_open.wait(PATIENCE_SECONDS)
        super().put(key, data)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Slow:
    store = Slow()
    monkeypatch.setattr(recording, "_URGENT_SECONDS", 0.01)
    return store


@pytest.fixture
def state(tmp_path: Path) -> TrainState:
    return new_state(SPEC, imported(SPEC.dataset, tmp_path).manifest, CPU)


@pytest.fixture
def recorder(store: Slow, state: TrainState, tmp_path: Path) -> Iterator[RunRecorder]:
    history = History.read(store, KEYS, 1)
    manifest, alone = imported(SPEC.dataset, tmp_path).manifest, World.alone(CPU)
    run = Run("memory://slow", "job_1", 1, "")
    recorder = RunRecorder(
        run,
        store,
        SPEC,
        manifest,
        alone,
        state,
        history,
        Timekeeper(history),
        spec_sha256="0" * 64,
        start=None,
    )
    yield recorder
    store.is_open.set()
    recorder.close("succeeded")


def test_an_urgent_checkpoint_that_finds_another_being_written_is_owed_until_it_can_be_taken(
    recorder: RunRecorder, store: Slow, state: TrainState
) -> None:
    recorder.checkpoint(state, is_urgent=False)
    store.is_asked.wait(PATIENCE_SECONDS)
    state.images_seen = 16
    recorder.checkpoint(state, is_urgent=True)
    while_busy = recorder.owes_checkpoint
    store.is_open.set()
    recorder._writer.settle(PATIENCE_SECONDS)

    assert (while_busy, recorder.owes_checkpoint) == (False, True)
    state.images_seen = 32
    recorder.checkpoint(state, is_urgent=True)
    recorder._writer.settle(PATIENCE_SECONDS)
    assert not recorder.owes_checkpoint
    assert f"{KEYS.checkpoint(32, 1)}{MANIFEST}" in store.list(KEYS.checkpoints)
