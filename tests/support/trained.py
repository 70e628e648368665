"""A job that has been trained for ten steps of a tiny network, with power-function averages in its checkpoints."""

from pathlib import Path
from typing import Any

import torch

from tests.support.specs import smoke_spec
from workers.contract.keys import JobKeys
from workers.contract.spec import TrainSpec
from workers.data import ImageSet, import_dataset
from workers.storage import ObjectStore
from workers.training.checkpoint import save_checkpoint
from workers.training.snapshot import Snapshot
from workers.training.state import new_state
from workers.training.step import Trainer
from workers.training.world import World

_CPU = torch.device("cpu")


def tiny_spec(**changes: Any) -> TrainSpec:
    """160 images in batches of 16, averages of widths 0.05 and 0.1."""
    return smoke_spec(
        **{
            "network": {"kind": "ddpmpp", "channels": 8, "channel_multipliers": [1], "blocks_per_level": 1},
            "objective": {"consistency": None},
            "ema": {"kind": "power", "relative_widths": [0.05, 0.1]},
            "optimizer": {"learning_rate": 0.02},
            "cadence": {"log_images": 16, "checkpoint_images": 16},
            "duration_images": 160,
        }
        | changes
    )


def train_job(spec: TrainSpec, store: ObjectStore, keys: JobKeys, *, cache: Path, every: int) -> None:
    """Train in this process, with a checkpoint after `every` images."""
    manifest = import_dataset(spec.dataset, store)
    store.put(keys.spec, spec.model_dump_json().encode())
    store.put(keys.dataset, manifest.model_dump_json().encode())
    state = new_state(spec, manifest, _CPU)
    images = ImageSet.open(manifest.digest, store=store, cache=cache)
    for step in Trainer(state, images, spec, World.alone(_CPU)).steps():
        if step.images_seen % every == 0:
            save_checkpoint(Snapshot.of(state), store, keys, attempt=1, spec_sha256="0" * 64)
