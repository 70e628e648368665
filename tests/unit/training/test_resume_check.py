"""A resumed run says how it compares with the run that was interrupted."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.images import imported, random_images
from tests.support.specs import smoke_spec
from workers.contract.compute import Workers
from workers.contract.records import Resume
from workers.contract.spec import TrainSpec
from workers.data import ImageSet
from workers.training.resume_check import ResumeCheck, rounds_coarsely
from workers.training.snapshot import tensors_of
from workers.training.state import TrainState, new_state
from workers.training.step import Trainer
from workers.training.telemetry import Window
from workers.training.world import World

CPU = torch.device("cpu")
ALONE = World.alone(CPU)

RECORDED = {seen: {"loss/dsm": 0.5 + seen / 1000, "throughput/images_per_second": 10.0} for seen in range(110, 500, 10)}


def checked(factor: float, *, rows: int = 3, other_device: str | None = None) -> ResumeCheck:
    check = ResumeCheck(100, RECORDED, other_device=other_device)
    for seen in range(110, 110 + 10 * rows, 10):
        check.compare(seen, {"loss/dsm": RECORDED[seen]["loss/dsm"] * factor, "throughput/images_per_second": 99.0})
    return check


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        (1.0, "bit_exact"),
        (math.nextafter(1.0, 2.0), "within_tolerance"),
        (1.0009, "within_tolerance"),
        (1.002, "diverged"),
        (0.9, "diverged"),
    ],
)
def test_the_verdict_rests_on_the_largest_difference_of_a_loss(factor: float, verdict: str) -> None:
    result = checked(factor).result

    assert (result.images_seen, result.verdict, result.compared_rows) == (100, verdict, 3)
    assert result.largest_difference == pytest.approx(abs(factor - 1) / max(factor, 1), rel=1e-6)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0009, "within_tolerance"), (1.002, "nothing_to_compare")])
def test_losses_that_differ_say_nothing_where_another_device_drew_the_noise(factor: float, verdict: str) -> None:
    result = checked(factor, other_device="A100").result

    assert (result.verdict, result.other_device) == (verdict, "A100")


def test_one_row_that_differs_is_enough_though_those_behind_it_do_not() -> None:
    check = checked(1.0)

    check.compare(140, {"loss/dsm": 0.1})
    check.compare(150, RECORDED[150])

    assert check.result.verdict == "diverged"


def test_rows_that_nobody_recorded_say_nothing() -> None:
    check = ResumeCheck(490, {})

    check.compare(500, {"loss/dsm": 0.5})

    assert check.result.verdict == "nothing_to_compare"


def test_twenty_rows_are_enough() -> None:
    check = checked(1.0, rows=20)

    check.compare(310, {"loss/dsm": 0.0})

    assert (check.result.verdict, check.result.compared_rows) == ("bit_exact", 20)


def test_rows_of_other_images_are_not_compared_though_they_end_with_the_same() -> None:
    """The run before was asked for a checkpoint at 115 images, and died before that was committed."""
    check = ResumeCheck(100, {115: {"loss/dsm": 0.9}, 120: {"loss/dsm": 0.1}, 130: {"loss/dsm": 0.4}})

    for seen, loss in ((110, 0.6), (120, 0.5), (130, 0.4)):
        check.compare(seen, {"loss/dsm": loss})

    assert (check.result.verdict, check.result.compared_rows) == ("bit_exact", 1)


@pytest.mark.parametrize(("dsm", "verdict"), [(1.004, "within_tolerance"), (1.006, "diverged")])
def test_in_few_bits_only_the_denoising_loss_tells_and_that_less_exactly(dsm: float, verdict: str) -> None:
    check = ResumeCheck(100, {110: {"loss/dsm": 1.0, "loss/consistency": 1.0}}, is_coarse=True)

    check.compare(110, {"loss/dsm": dsm, "loss/consistency": 2.0})

    assert check.result.verdict == verdict


@pytest.mark.parametrize(
    ("compute", "is_coarse"),
    [
        ({"precision": "bfloat16", "accelerator": "cpu"}, True),
        ({"precision": "bfloat16", "tf32": False}, True),
        ({"precision": "float32"}, True),
        ({"precision": "float32", "tf32": False}, False),
        ({"precision": "float32", "accelerator": "cpu"}, False),
        ({"precision": "bfloat16", "deterministic": True}, False),
    ],
)
def test_what_computes_in_few_bits_is_held_to_less_unless_it_is_deterministic(
    compute: dict[str, Any], is_coarse: bool
) -> None:
    assert rounds_coarsely(Workers.model_validate(compute)) is is_coarse


SPEC = smoke_spec(
    optimizer={"learning_rate": 1e-3},
    objective={"consistency": {"estimator": "symmetric", "batch_fraction": 0.25}},
    compute={"workers": 1, "accelerator": "cpu", "precision": "bfloat16"},
    duration_images=10_000,
    cadence={"log_images": 160, "checkpoint_images": 1600},
)


class Rounded:
    """Training in bfloat16 that was interrupted, after some steps and then some more, of which rows are recorded."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        state = new_state(SPEC, self._images.manifest, CPU)
        trainer = Trainer(state, self._images, SPEC, ALONE)
        for _ in range(30):
            trainer.step()
        self.early = contents(state)
        for _ in range(20):
            trainer.step()
        self.last, self._seen = contents(state), state.images_seen
        self._rows = rows(trainer)

    def resumed(
        self,
        files: dict[str, dict[str, Tensor]],
        *,
        spec: TrainSpec = SPEC,
        images: ImageSet | None = None,
        change: Callable[[TrainState], None] = lambda _: None,
    ) -> Resume:
        state = new_state(spec, self._images.manifest, CPU)
        for name, own in tensors_of(state).items():
            for key, tensor in own.items():
                tensor.copy_(files[name][key])
        state.images_seen = self._seen
        change(state)
        check = ResumeCheck(self._seen, self._rows, is_coarse=rounds_coarsely(spec.compute))
        for seen, values in rows(Trainer(state, images or self._images, spec, ALONE)).items():
            check.compare(seen, values)
        return check.result


def contents(state: TrainState) -> dict[str, dict[str, Tensor]]:
    return deepcopy({name: {key: t.detach() for key, t in own.items()} for name, own in tensors_of(state).items()})


def rows(trainer: Trainer) -> dict[int, dict[str, float]]:
    """Three, of ten steps each."""
    window, found = Window(ALONE, SPEC.objective.consistency), {}
    for _ in range(3):
        for _ in range(10):
            step = trainer.step()
            window.add(step.terms, step.gradient_norm)
        measured = window.close()
        found[step.images_seen] = {f"loss/{name}": value for name, value in measured.losses.items()}
        found[step.images_seen] |= measured.telemetry
    return found


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Rounded:
    return Rounded(imported(SPEC.dataset, tmp_path_factory.mktemp("images")))


def other_last_bits(state: TrainState) -> None:
    """As from another order of adding up."""
    generator = torch.Generator().manual_seed(5)
    for parameter in state.denoiser.parameters():
        parameter.register_hook(lambda each: each * (1 + 1e-7 * torch.randn(each.shape, generator=generator)))


def lose_moments(state: TrainState) -> None:
    for moments in state.optimizer.state.values():
        for moment in moments.values():
            moment.zero_()


def test_in_bfloat16_gradients_that_differ_in_their_last_bit_are_of_the_run_that_was_interrupted(
    interrupted: Rounded,
) -> None:
    assert interrupted.resumed(interrupted.last).verdict == "bit_exact"
    result = interrupted.resumed(interrupted.last, change=other_last_bits)
    assert (result.verdict, result.compared_rows) == ("within_tolerance", 3)


def test_in_bfloat16_what_is_not_the_run_that_was_interrupted_is_seen(interrupted: Rounded) -> None:
    last, others = interrupted.last, random_images(count=64, resolution=16, channels=1)

    assert interrupted.resumed(last, spec=SPEC.model_copy(update={"seed": 1})).verdict == "diverged"
    assert interrupted.resumed(last, images=others).verdict == "diverged"
    assert interrupted.resumed(last, change=lose_moments).verdict == "diverged"
    assert interrupted.resumed(interrupted.early).verdict == "diverged"
