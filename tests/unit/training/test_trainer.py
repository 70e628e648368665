"""One optimizer step: however it is split, compiled or interrupted, it is the same step."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from tests.support.denoisers import small_denoiser
from tests.support.gloo import in_processes, joined
from tests.support.images import imported, in_memory, random_images
from tests.support.specs import smoke_spec
from workers.contract.spec import TrainSpec
from workers.data import ImageSet
from workers.training.backend import compile_networks, configure_backend
from workers.training.snapshot import Snapshot
from workers.training.state import TrainState, lay_out_channels_last, new_state
from workers.training.step import Step, Trainer, learning_rate
from workers.training.world import World

# PyTorch's own compiler says so of itself when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

CPU = torch.device("cpu")
ALONE = World.alone(CPU)
HARD = {
    "augmentation": {"probability": 0.3},
    "network": {
        "kind": "ddpmpp",
        "channels": 8,
        "channel_multipliers": [1, 2],
        "blocks_per_level": 1,
        "attention_resolutions": [8],
        "dropout": 0.2,
        "class_conditional": True,
    },
}


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return imported(smoke_spec().dataset, tmp_path)


def spec_with(estimator: str = "symmetric", **changes: Any) -> TrainSpec:
    term = {"estimator": estimator, "batch_fraction": 0.5}
    objective = {"consistency": term, "label_dropout": 0.2}
    return smoke_spec(**({"objective": objective, "compute": {"workers": 1, "accelerator": "cpu"}} | HARD | changes))


def after(steps: int, spec: TrainSpec, images: ImageSet) -> tuple[TrainState, list[Step]]:
    state = new_state(spec, images.manifest, CPU)
    trainer = Trainer(state, images, spec, ALONE)
    return state, [trainer.step() for _ in range(steps)]


def weights(state: TrainState) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in state.denoiser.parameters()])


@pytest.mark.parametrize("estimator", ["symmetric", "asymmetric", "antithetic4", "target", "paper"])
def test_a_batch_in_several_passes_is_the_batch_in_one(estimator: str, images: ImageSet) -> None:
    """Up to the order of sums: 1e-4 of the largest gradient, and losses to 1e-4."""
    compute = {"workers": 1, "accelerator": "cpu"}
    at_once, apart = spec_with(estimator), spec_with(estimator, compute=compute | {"microbatch_images": 4})

    whole, (step,) = after(1, at_once, images)
    split, (split_step,) = after(1, apart, images)

    assert float(split_step.gradient_norm) == pytest.approx(float(step.gradient_norm), rel=1e-4)
    assert float(split_step.terms.dsm.mean()) == pytest.approx(float(step.terms.dsm.mean()), rel=1e-4)
    assert len(split_step.terms.consistency) == len(step.terms.consistency) == 8
    for ours, theirs in zip(split.denoiser.parameters(), whole.denoiser.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4 * float(theirs.grad.abs().max()) + 1e-9)


@pytest.mark.parametrize("microbatch", [None, 4])
def test_a_gradient_that_is_too_long_is_scaled_down_as_a_whole_and_others_are_left_alone(
    microbatch: int | None, images: ImageSet
) -> None:
    compute = {"workers": 1, "accelerator": "cpu", "microbatch_images": microbatch}
    free, (step,) = after(1, spec_with(compute=compute), images)
    norm = float(step.gradient_norm)

    for limit, factor in ((norm / 4, 0.25), (norm * 4, 1.0)):
        clipped, (clipped_step,) = after(1, spec_with(compute=compute, optimizer={"max_gradient_norm": limit}), images)
        assert torch.equal(clipped_step.gradient_norm, step.gradient_norm)
        for ours, theirs in zip(clipped.denoiser.parameters(), free.denoiser.parameters(), strict=True):
            assert ours.grad is not None
            assert theirs.grad is not None
            assert torch.allclose(ours.grad, factor * theirs.grad, rtol=1e-4, atol=0)


@pytest.mark.parametrize("limit", [None, 1.0])
def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing_but_the_count(
    limit: float | None, images: ImageSet
) -> None:
    spec = spec_with(optimizer={"max_gradient_norm": limit})
    state, _ = after(1, spec, images)
    before = weights(state)
    moments = state.optimizer.state.values()
    old_moments = [each["exp_avg"].clone() for each in moments]
    first = next(state.denoiser.parameters())
    hook = first.register_hook(lambda gradient: gradient * torch.nan)

    step = Trainer(state, images, spec, ALONE).step()
    hook.remove()

    assert not bool(step.gradient_norm.isfinite())
    assert state.images_seen == 32
    assert torch.equal(weights(state), before)
    assert all(torch.equal(each["exp_avg"], old) for each, old in zip(moments, old_moments, strict=True))
    assert all(each["step"] == 1 for each in moments)
    assert all(bool(average.isfinite().all()) for average in state.ema.parameters())
    assert bool(Trainer(state, images, spec, ALONE).step().gradient_norm.isfinite())


def test_compiled_or_not_it_is_the_same_step(images: ImageSet) -> None:
    """Losses to 1e-4, over three steps."""
    network = HARD["network"] | {"channel_multipliers": [1], "attention_resolutions": []}  # compiles in half a minute
    compute = {"workers": 1, "accelerator": "cpu"}
    _, plain = after(3, spec_with(network=network), images)

    with capture_logs() as logs:
        state, compiled = after(3, spec_with(network=network, compute=compute | {"compile": True}), images)

    assert state.denoiser.compiled is not None
    assert "compile.failed" not in [entry["event"] for entry in logs]
    for ours, theirs in zip(compiled, plain, strict=True):
        assert float(ours.terms.dsm.mean()) == pytest.approx(float(theirs.terms.dsm.mean()), rel=1e-4)
        assert float(ours.gradient_norm) == pytest.approx(float(theirs.gradient_norm), rel=1e-3)


def test_where_nothing_compiles_training_goes_on_and_says_so() -> None:
    denoiser, tried = small_denoiser(), list[bool]()

    def trial() -> None:
        tried.append(denoiser.compiled is not None)
        if denoiser.compiled is not None:
            raise RuntimeError("no compiler here")

    with capture_logs() as logs:
        compile_networks([denoiser], trial, ALONE)

    assert tried == [True, False]
    assert denoiser.compiled is None
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("compile.failed", "warning")]
    assert "no compiler here" in logs[0]["error"]


def _only_the_first_compiles(rank: int, port: int) -> None:
    denoiser, tried = small_denoiser(), list[bool]()

    def trial() -> None:
        tried.append(denoiser.compiled is not None)
        if rank == 1 and denoiser.compiled is not None:
            raise RuntimeError("no compiler here")

    with joined(rank, 2, port) as world, capture_logs() as logs:
        compile_networks([denoiser], trial, world)

    assert tried == [True, False]
    assert denoiser.compiled is None
    assert [(entry["event"], entry["error"]) for entry in logs] == [
        ("compile.failed", ("in another process", "RuntimeError: no compiler here")[rank])
    ]


def test_where_one_process_cannot_compile_none_does_and_the_first_says_so() -> None:
    in_processes(2, _only_the_first_compiles)


def _step_in_channels_last(rank: int, port: int, kind: str) -> None:
    """One whose gradients do not lie as DDP wants them fails."""
    warnings.simplefilter("error")
    images = random_images(count=16, resolution=8)
    network = HARD["network"] | {"kind": kind, "attention_resolutions": [4], "class_conditional": False}
    spec = spec_with(network=network, augmentation=None, objective={"consistency": None})
    state, plain = new_state(spec, images.manifest, CPU), new_state(spec, images.manifest, CPU)
    lay_out_channels_last(state.denoiser.network)
    with joined(rank, 2, port) as world:
        step, expected = (Trainer(each, images, spec, world).step() for each in (state, plain))

    assert torch.allclose(step.terms.dsm, expected.terms.dsm)
    assert torch.allclose(step.gradient_norm, expected.gradient_norm)


@pytest.mark.parametrize("kind", ["ddpmpp", "ncsnpp", "adm", "edm2"])
def test_gradients_of_weights_in_channels_last_lie_as_ddp_wants_them(kind: str) -> None:
    in_processes(2, _step_in_channels_last, kind)


def test_memory_that_will_not_do_is_no_fault_of_the_compiler() -> None:
    def trial() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        compile_networks([small_denoiser()], trial, ALONE)


def test_a_trial_that_fails_leaves_no_gradients(images: ImageSet) -> None:
    spec = spec_with()
    state = new_state(spec, images.manifest, CPU)
    trainer = Trainer(state, images, spec, ALONE)
    first = next(state.denoiser.parameters())
    first.register_hook(lambda _: {}["no memory"])

    with pytest.raises(KeyError):
        trainer._trial()

    assert all(parameter.grad is None for parameter in state.denoiser.parameters())


def test_a_trial_holds_what_a_step_of_several_passes_holds(images: ImageSet) -> None:
    """A pass beside the gradients of the one before, without the term and with it."""
    compute = {"workers": 1, "accelerator": "cpu", "microbatch_images": 4}
    term = {"estimator": "symmetric", "batch_fraction": 0.5, "start": 0.5}
    spec = spec_with(compute=compute, objective={"consistency": term})
    state, held = new_state(spec, images.manifest, CPU), list[bool]()
    trainer = Trainer(state, images, spec, ALONE)
    first = next(state.denoiser.parameters())
    trainer._objective.register_forward_pre_hook(lambda module, inputs: held.append(first.grad is not None))

    trainer._trial()

    assert held == [False, True, False, True]
    assert first.grad is None


def test_what_adam_keeps_is_there_before_the_first_step_and_changes_nothing_of_it(images: ImageSet) -> None:
    spec = spec_with()
    state, late = new_state(spec, images.manifest, CPU), new_state(spec, images.manifest, CPU)
    trainer, late_trainer = (Trainer(each, images, spec, ALONE) for each in (state, late))
    late.optimizer.state.clear()  # its first step makes it

    assert len(state.optimizer.state) == len([*state.denoiser.parameters()])
    assert all(not any(bool(each[name].any()) for name in each) for each in state.optimizer.state.values())
    assert torch.equal(weights(state), weights(new_state(spec, images.manifest, CPU)))
    for _ in range(3):
        assert torch.equal(trainer.step().gradient_norm, late_trainer.step().gradient_norm)

    assert dict(Snapshot.of(state).files()) == dict(Snapshot.of(late).files())


def test_a_state_that_goes_on_is_as_it_was_left(images: ImageSet) -> None:
    spec = spec_with()
    state, _ = after(2, spec, images)
    left = {name: bytes(data) for name, data in Snapshot.of(state).files()}

    Trainer(state, images, spec, ALONE)

    assert dict(Snapshot.of(state).files()) == left


def test_how_an_image_is_flipped_tells_nothing_of_its_noise(images: ImageSet) -> None:
    """Both are drawn for each step from seeds of their own; 200 steps of 16 images."""
    spec = spec_with(duration_images=10_000)
    state = new_state(spec, images.manifest, CPU)
    trainer = Trainer(state, images, spec, ALONE)
    flips, levels = [], []
    for _ in range(200):
        (drawn,) = trainer._drawn(sub=0)
        assert drawn.augmentation is not None
        flips.append(drawn.augmentation[:, 0])
        levels.append(drawn.draws.sigma.log())
        state.images_seen += 16

    for values in (torch.cat(levels), torch.cat(levels) + 1.2 > 0, (torch.cat(levels) + 1.2).abs()):
        correlation = torch.corrcoef(torch.stack([torch.cat(flips), values.float()]))[0, 1]
        assert abs(float(correlation)) < 4.5 / 3200**0.5


def test_a_compiled_run_has_tried_the_term_before_it_begins(images: ImageSet) -> None:
    term = {"estimator": "symmetric", "batch_fraction": 0.5, "start": 0.5}
    spec = spec_with(objective={"consistency": term}, duration_images=64)
    state = new_state(spec, images.manifest, CPU)
    sizes: list[int] = []
    state.denoiser.network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))

    Trainer(state, images, spec, ALONE)._trial()

    assert sizes == [16, 16, 16]  # a pass without the term; one with it, and its two samples of eight images
    assert all(parameter.grad is None for parameter in state.denoiser.parameters())


def test_the_term_begins_after_its_share_of_the_run(images: ImageSet) -> None:
    term = {"estimator": "symmetric", "batch_fraction": 0.5, "start": 0.5}
    spec = spec_with(objective={"consistency": term}, duration_images=64)

    _, steps = after(4, spec, images)

    assert [len(step.terms.consistency) for step in steps] == [0, 0, 8, 8]
    assert [spec.consistency_images_at(seen) for seen in (0, 31, 32, 64)] == [0, 0, 8, 8]


def test_the_learning_rate_rises_and_falls_with_the_images_seen() -> None:
    adam = {"learning_rate": 1.0, "warmup_images": 64, "decay_after_images": 160}
    spec = smoke_spec(optimizer=adam)

    assert [learning_rate(spec, seen) for seen in (0, 16, 48, 144, 624)] == pytest.approx([0.25, 0.5, 1.0, 1.0, 0.5])


@pytest.mark.parametrize("kind", ["ncsnpp", "adm", "edm2", "mlp"])
def test_every_network_learns(kind: str) -> None:
    sizes = {"channels": 8, "channel_multipliers": [1, 2], "blocks_per_level": 1, "attention_resolutions": [4]}
    network = {"kind": kind} | ({"width": 256} if kind == "mlp" else sizes)
    spec = smoke_spec(
        network=network,
        compute={"workers": 1, "accelerator": "cpu"},
        optimizer={"learning_rate": 3e-3},
        duration_images=16 * 40,
    )
    levels = np.random.default_rng(1).integers(256, size=(16, 3, 1, 1), dtype=np.uint8)
    images = in_memory(np.broadcast_to(levels, (16, 3, 8, 8)).copy())
    state = new_state(spec, images.manifest, CPU)

    losses = [float(step.terms.dsm.mean()) for step in Trainer(state, images, spec, ALONE).steps()]

    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])


def test_deterministic_is_set_and_can_be_taken_back() -> None:
    quick, exact = spec_with().compute, spec_with(compute={"accelerator": "cpu", "deterministic": True}).compute
    try:
        configure_backend(exact)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
    finally:
        configure_backend(quick)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cuda.matmul.allow_tf32
