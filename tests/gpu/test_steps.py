"""A training step on a GPU: repeatable to the bit if asked to be, never waiting, and the same step in all modes."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.support.images import random_images
from tests.support.specs import smoke_spec
from workers.contract.keys import JobKeys
from workers.contract.spec import TrainSpec
from workers.data import ImageSet
from workers.storage.memory import MemoryStore
from workers.training.backend import configure_backend
from workers.training.checkpoint import restore_latest, save_checkpoint
from workers.training.snapshot import Snapshot
from workers.training.state import TrainState, new_state
from workers.training.step import Trainer
from workers.training.telemetry import Window
from workers.training.world import World

KEYS = JobKeys("job")
EXACT = {"accelerator": "gpu", "tf32": False}
NETWORKS: dict[str, dict[str, Any]] = {
    kind: {"kind": kind, "channels": 16, "channel_multipliers": [1, 2], "attention_resolutions": [8]}
    for kind in ("ddpmpp", "ncsnpp", "adm", "edm2")
}


@pytest.fixture(autouse=True)
def backend_as_it_was() -> Iterator[None]:
    yield
    configure_backend(smoke_spec(compute={"accelerator": "cpu"}).compute)


@pytest.fixture
def images() -> ImageSet:
    return random_images(count=256, resolution=16, num_classes=10)


def spec_of(network: str = "ddpmpp", **compute: Any) -> TrainSpec:
    """Everything on that draws or warps: dropout, augmentation, classes, and the consistency term."""
    return smoke_spec(
        network=NETWORKS[network] | {"dropout": 0.1, "class_conditional": True, "blocks_per_level": 1},
        augmentation=None if network == "edm2" else {"probability": 0.5},
        objective={"consistency": {"estimator": "symmetric"}},
        compute=EXACT | compute,
        batch_images=32,
    )


def begun(spec: TrainSpec, images: ImageSet, gpu: torch.device) -> tuple[TrainState, Trainer]:
    torch.compiler.reset()
    configure_backend(spec.compute)
    state = new_state(spec, images.manifest, gpu)
    return state, Trainer(state, images, spec, World.alone(gpu))


def dsm_losses(trainer: Trainer, *, steps: int) -> list[float]:
    return [float(trainer.step().terms.dsm.mean()) for _ in range(steps)]


@pytest.mark.parametrize(
    ("network", "mode"),
    [
        *((network, mode) for network in NETWORKS for mode in ({}, {"precision": "bfloat16"})),
        ("ddpmpp", {"compile": True}),
    ],
)
def test_with_deterministic_kernels_a_restored_state_goes_on_to_the_same_bits(
    network: str, mode: dict[str, Any], images: ImageSet, gpu: torch.device
) -> None:
    spec = spec_of(network, deterministic=True, **mode)
    whole, trainer = begun(spec, images, gpu)
    expected = dsm_losses(trainer, steps=6)
    first, trainer = begun(spec, images, gpu)
    losses = dsm_losses(trainer, steps=3)
    store = MemoryStore()
    save_checkpoint(Snapshot.of(first), store, KEYS, attempt=1, spec_sha256="0" * 64)

    second = new_state(spec, images.manifest, gpu)
    restore_latest(second, store, KEYS)
    losses += dsm_losses(Trainer(second, images, spec, World.alone(gpu)), steps=3)

    assert losses == expected
    assert dict(Snapshot.of(second).files()) == dict(Snapshot.of(whole).files())


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_never_waits_for_the_device(network: str, images: ImageSet, gpu: torch.device) -> None:
    spec = spec_of(network)
    _, trainer = begun(spec, images, gpu)
    window = Window(World.alone(gpu), spec.objective.consistency)
    trainer.step()  # warm-up: the first one fills caches

    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step = trainer.step()
            window.add(step.terms, step.gradient_norm)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert window.close().losses["dsm"] > 0


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_compute_on_a_gpu_what_they_compute_on_a_cpu(
    network: str, images: ImageSet, gpu: torch.device
) -> None:
    spec = spec_of(network)
    configure_backend(spec.compute)
    there, here = new_state(spec, images.manifest, gpu), new_state(spec, images.manifest, torch.device("cpu"))
    with torch.no_grad():
        for ours, theirs in zip(there.denoiser.parameters(), here.denoiser.parameters(), strict=True):
            theirs.normal_(std=0.1)
            ours.copy_(theirs)
    x, sigma = torch.randn(8, 3, 16, 16), torch.logspace(-2, 1, 8)

    with torch.no_grad():
        found, expected = there.denoiser(x.to(gpu), sigma.to(gpu)).cpu(), here.denoiser(x, sigma)

    assert (found - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize(
    ("mode", "tolerance"),
    [
        ({"compile": True}, 1e-4),
        ({"microbatch_images": 8}, 1e-4),
        ({"tf32": True}, 1e-2),
        ({"precision": "bfloat16"}, 3e-2),
    ],
    ids=["compiled", "accumulated", "TF32", "bf16"],
)
def test_other_modes_train_alike(mode: dict[str, Any], tolerance: float, images: ImageSet, gpu: torch.device) -> None:
    _, plain = begun(spec_of(), images, gpu)
    expected = dsm_losses(plain, steps=5)

    state, other = begun(spec_of(**mode), images, gpu)

    assert dsm_losses(other, steps=5) == pytest.approx(expected, rel=tolerance)
    assert bool(mode.get("compile")) == (state.denoiser.compiled is not None)
