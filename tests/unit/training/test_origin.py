"""A fork goes on from a checkpoint of another job, or says why it cannot."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.trained import tiny_spec, train_job
from workers.contract.data import DatasetManifest
from workers.contract.document import SpecError
from workers.contract.keys import JobKeys
from workers.contract.records import CheckpointRef
from workers.data import ImageSet
from workers.storage.memory import MemoryStore
from workers.training.checkpoint import DamagedCheckpointError, save_checkpoint
from workers.training.snapshot import Snapshot
from workers.training.start import check_origin, restore_start
from workers.training.state import TrainState, new_state
from workers.training.step import Trainer
from workers.training.world import World

CPU = torch.device("cpu")
ALONE = World.alone(CPU)
PARENT, FORK = JobKeys("parent"), JobKeys("fork")
ORIGIN = CheckpointRef(job_id="parent", images_seen=80, attempt=1)


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """With a job that has checkpoints at 80 and 160 images, and a fork of the first."""
    store = MemoryStore()
    train_job(tiny_spec(), store, PARENT, cache=tmp_path, every=80)
    store.put(FORK.origin, ORIGIN.model_dump_json().encode())
    return store


@pytest.fixture
def images(store: MemoryStore) -> DatasetManifest:
    return DatasetManifest.model_validate_json(store.get(PARENT.dataset))


def weights(state: TrainState) -> list[torch.Tensor]:
    return [parameter for each in (state.denoiser, *state.averages) for parameter in each.parameters()]


def test_a_fork_that_changes_nothing_trains_what_its_origin_did(
    store: MemoryStore, images: DatasetManifest, tmp_path: Path
) -> None:
    spec, state, original = tiny_spec(), *(new_state(tiny_spec(), images, CPU) for _ in range(2))
    restore_start(original, tiny_spec(), store, PARENT, ALONE)

    folder = restore_start(state, tiny_spec(), store, FORK, ALONE)
    started_at = state.images_seen
    for _ in Trainer(state, ImageSet.open(images.digest, store=store, cache=tmp_path), spec, ALONE).steps():
        pass

    assert (folder, started_at) == (PARENT.checkpoint(80, 1), 80)
    assert state.images_seen == original.images_seen == 160
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(weights(state), weights(original), strict=True))


def test_a_fork_goes_on_from_its_own_checkpoint_once_it_has_one(store: MemoryStore, images: DatasetManifest) -> None:
    state = new_state(tiny_spec(), images, CPU)
    restore_start(state, tiny_spec(), store, FORK, ALONE)
    state.images_seen = 96
    save_checkpoint(Snapshot.of(state), store, FORK, attempt=1, spec_sha256="1" * 64)

    again = new_state(tiny_spec(), images, CPU)

    assert restore_start(again, tiny_spec(), store, FORK, ALONE) == FORK.checkpoint(96, 1)
    assert again.images_seen == 96


def test_a_job_without_origin_or_checkpoint_starts_from_nothing(store: MemoryStore, images: DatasetManifest) -> None:
    assert restore_start(new_state(tiny_spec(), images, CPU), tiny_spec(), store, JobKeys("new"), ALONE) is None


def test_a_damaged_origin_is_an_error_and_not_a_start_from_nothing(store: MemoryStore, images: DatasetManifest) -> None:
    store.delete(ORIGIN.folder + "network.safetensors")

    with pytest.raises(DamagedCheckpointError):
        restore_start(new_state(tiny_spec(), images, CPU), tiny_spec(), store, FORK, ALONE)
    with pytest.raises(DamagedCheckpointError):
        check_origin(ORIGIN, store, tiny_spec(), images)


def test_a_spec_may_change_what_is_not_in_the_checkpoint(store: MemoryStore, images: DatasetManifest) -> None:
    spec = tiny_spec(
        optimizer={"learning_rate": 0.001},
        objective={"consistency": {"estimator": "symmetric"}},
        duration_images=320,
        seed=7,
    )

    check_origin(ORIGIN, store, spec, None)
    check_origin(ORIGIN, store, spec, images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration_images": 80}, "duration_images: .* set it above 80"),
        ({"ema": {"kind": "exponential"}}, "ema: .* has no ema.safetensors; leave ema as it is in that job"),
        ({"ema": {"kind": "power", "relative_widths": [0.05, 0.2]}}, "ema: .* has no ema-0.200.safetensors"),
        (
            {"network": {"kind": "ddpmpp", "channels": 16, "channel_multipliers": [1], "blocks_per_level": 1}},
            "network: .* has shape .* leave network",
        ),
    ],
)
def test_what_does_not_fit_the_checkpoint_is_refused_with_the_field_to_change(
    store: MemoryStore, images: DatasetManifest, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        check_origin(ORIGIN, store, tiny_spec(**changes), images)


@pytest.mark.parametrize(
    ("preconditioning", "message"),
    [
        ({"kind": "ve"}, r"preconditioning.kind: .* trained with edm, this job has ve; set preconditioning.kind=edm"),
        ({"kind": "edm", "sigma_data": 0.5}, r"preconditioning.sigma_data: .*, this job has 0.5; .*sigma_data=0\.\d+:"),
    ],
)
def test_other_preconditioning_is_refused_before_any_image_is_imported(
    store: MemoryStore, preconditioning: dict[str, Any], message: str
) -> None:
    spec = tiny_spec(preconditioning=preconditioning, sampler={"sigma_min": 0.02})

    with pytest.raises(SpecError, match=message):
        check_origin(ORIGIN, store, spec, None)


def test_other_images_do_not_change_what_the_weights_were_preconditioned_with(
    store: MemoryStore, images: DatasetManifest
) -> None:
    others = images.model_copy(update={"sigma_data": 2 * images.sigma_data})
    same = {"kind": "edm", "sigma_data": images.sigma_data, "p_mean": -0.4, "p_std": 1.0}

    check_origin(ORIGIN, store, tiny_spec(preconditioning=same), others)
    with pytest.raises(SpecError, match=f"set preconditioning.sigma_data={images.sigma_data}: the weights mean"):
        check_origin(ORIGIN, store, tiny_spec(), others)


def test_a_checkpoint_that_is_not_there_is_refused_before_any_image_is_imported(store: MemoryStore) -> None:
    gone = CheckpointRef(job_id="parent", images_seen=96, attempt=1)

    with pytest.raises(SpecError, match="origin: the checkpoint of parent at 96 images is not there"):
        check_origin(gone, store, tiny_spec(), None)
