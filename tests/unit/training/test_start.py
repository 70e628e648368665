"""Where several processes start: one reads, and all of them have it."""

import hashlib
from pathlib import Path

import safetensors.torch
import torch

from tests.support.gloo import in_processes, joined
from tests.support.images import random_images
from tests.support.trained import tiny_spec
from workers.contract.keys import JobKeys
from workers.contract.spec import TrainSpec
from workers.diffusion.denoiser import Denoiser
from workers.storage.memory import MemoryStore
from workers.training.checkpoint import save_checkpoint
from workers.training.snapshot import Snapshot, tensors_of
from workers.training.start import restore_start, share_state
from workers.training.state import TrainState, augmentation_features, new_state
from workers.training.weights import save_weights
from workers.training.weights_header import WeightsHeader

SIZE = 3
KEYS = JobKeys("job")
IMAGES = random_images(count=4, resolution=8).manifest


def state_of(spec: TrainSpec) -> TrainState:
    return new_state(spec, IMAGES, torch.device("cpu"))


def moved() -> TrainState:
    """Every tensor, Adam's included, is another than at the start."""
    state = state_of(tiny_spec())
    for tensors in tensors_of(state).values():
        for number, tensor in enumerate(tensors.values()):
            tensor.add_(1 + number)
    state.images_seen = 32
    return state


def fingerprint(state: TrainState) -> str:
    files = sorted((name, hashlib.sha256(data).hexdigest()) for name, data in Snapshot.of(state).files())
    return f"{state.images_seen} {files}"


def digest(denoiser: Denoiser) -> str:
    return hashlib.sha256(safetensors.torch.save(denoiser.network.state_dict())).hexdigest()


def test_a_checkpoint_is_read_by_the_first_process_alone(tmp_path: Path) -> None:
    in_processes(SIZE, _restore, tmp_path)

    found = [(tmp_path / str(rank)).read_text() for rank in range(SIZE)]
    assert found == [f"{KEYS.checkpoint(32, 1)} {fingerprint(moved())}"] * SIZE


def _restore(rank: int, port: int, folder: Path) -> None:
    """Each has a store of its own, and only that of the first has anything in it."""
    store = MemoryStore()
    if rank == 0:
        save_checkpoint(Snapshot.of(moved()), store, KEYS, attempt=1, spec_sha256="0" * 64)
    with joined(rank, SIZE, port) as world:
        state = state_of(tiny_spec())
        if rank == 1:
            state.denoiser.network.to(memory_format=torch.channels_last)
        start = restore_start(state, tiny_spec(), store, KEYS, world)
        share_state(state, world)
    (folder / str(rank)).write_text(f"{start} {fingerprint(state)}")


def test_initial_weights_are_read_by_the_first_process_alone(tmp_path: Path) -> None:
    in_processes(SIZE, _begin, tmp_path)

    networks = [digest(moved().denoiser)] * 3  # itself and the averages
    assert [(tmp_path / str(rank)).read_text() for rank in range(SIZE)] == [str(networks)] * SIZE


def _begin(rank: int, port: int, folder: Path) -> None:
    """Each is told of a file of its own, and only that of the first is there."""
    spec = tiny_spec(initial_weights=str(folder / f"{rank}.safetensors"))
    if rank == 0:
        save_weights(folder / "0.safetensors", moved().denoiser.network.state_dict(), _header(spec))
    with joined(rank, SIZE, port) as world:
        state = state_of(spec)
        assert restore_start(state, spec, MemoryStore(), KEYS, world) is None
        share_state(state, world)
    (folder / str(rank)).write_text(str([digest(each) for each in (state.denoiser, *state.averages)]))


def _header(spec: TrainSpec) -> WeightsHeader:
    return WeightsHeader(
        network=spec.network,
        preconditioning=spec.preconditioning,
        sigma_data=IMAGES.sigma_data,
        image_channels=IMAGES.channels,
        resolution=IMAGES.resolution,
        num_classes=0,
        augmentation_features=augmentation_features(spec),
        extra={},
    )
