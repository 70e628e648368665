"""Rows are in the store before a checkpoint is that they lead to: who goes on from it does not measure them again."""

from pathlib import Path

import pytest
import torch

from tests.support.trained import tiny_spec
from workers.contract.keys import MANIFEST, JobKeys
from workers.data import import_dataset
from workers.storage.memory import MemoryStore
from workers.tracking.background import Background
from workers.tracking.journal import recorded_rows
from workers.training.agreement import Wishes
from workers.training.run import run_training
from workers.training.scribe import Run
from workers.training.world import World

KEYS = JobKeys("job")


def test_no_checkpoint_is_committed_before_the_rows_that_lead_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Background.__init__.__kwdefaults__, "every_seconds", 3600.0)  # unless somebody waits for them
    store, put, led_to = MemoryStore.named("recorded"), MemoryStore.put, dict[int, int]()

    def watched(self: MemoryStore, key: str, data: bytes) -> None:
        if key.startswith(KEYS.checkpoints) and key.endswith(f"/{MANIFEST}"):
            images_seen, _ = KEYS.of_checkpoint(key.removesuffix(f"/{MANIFEST}"))
            led_to[images_seen] = max(recorded_rows(store, KEYS, after=0), default=0)
        put(self, key, data)

    spec = tiny_spec(cadence={"log_images": 16, "checkpoint_images": 64})
    manifest = import_dataset(spec.dataset, store)
    store.put(KEYS.spec, spec.model_dump_json().encode())
    store.put(KEYS.dataset, manifest.model_dump_json().encode())
    monkeypatch.setattr(MemoryStore, "put", watched)
    run, world = Run("memory://recorded", "job", 1, str(tmp_path)), World.alone(torch.device("cpu"))

    ending = run_training(run, world, heard=lambda: Wishes(), last_words=lambda _: None)

    assert ending.images_seen == 160
    assert led_to.keys() >= {64, 160}
    assert all(row >= images_seen for images_seen, row in led_to.items())
