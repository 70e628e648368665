"""What a job asks for reaches the network, the optimizer and the sampler."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from tests.support.images import imported, random_images
from tests.support.specs import smoke_spec
from workers.contract.spec import TrainSpec
from workers.data import ImageSet, sample_order
from workers.diffusion.conditions import NO_CLASS, Conditions
from workers.diffusion.denoiser import Denoiser
from workers.diffusion.ema import decays
from workers.training.samples import draw_grid
from workers.training.state import TrainState, new_state
from workers.training.step import Trainer, learning_rate
from workers.training.world import World

CPU = torch.device("cpu")
ALONE = World.alone(CPU)
NETWORK = {
    "kind": "ddpmpp",
    "channels": 8,
    "channel_multipliers": [1, 2],
    "blocks_per_level": 1,
    "attention_resolutions": [8],
    "class_conditional": True,
}


MLP = {"kind": "mlp", "width": 16}


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return imported(smoke_spec().dataset, tmp_path)


def told(spec: TrainSpec, images: ImageSet) -> list[tuple[Tensor, Conditions]]:
    """What the trained network is given in each evaluation of the first step."""
    state, seen = new_state(spec, images.manifest, CPU), []
    state.denoiser.network.register_forward_pre_hook(lambda module, inputs: seen.append((inputs[0], inputs[2])))
    Trainer(state, images, spec, ALONE).step()
    return seen


def spec_with(**changes: Any) -> TrainSpec:
    return smoke_spec(**({"compute": {"workers": 1, "accelerator": "cpu"}, "network": NETWORK} | changes))


def test_dropout_reaches_every_evaluation_with_the_same_masks(images: ImageSet) -> None:
    (_, first), (_, second) = told(spec_with(network=NETWORK | {"dropout": 0.3}), images)

    assert first.dropout is not None
    assert second.dropout is not None
    assert first.dropout.probability == 0.3
    assert torch.equal(second.dropout.keys, first.dropout.keys[:4].repeat(2))
    assert told(spec_with(), images)[0][1].dropout is None


def test_classes_reach_the_network_but_for_those_that_are_dropped(images: ImageSet) -> None:
    expected = images.labels(sample_order(0, first=0, count=16, num_images=len(images)))
    assert expected is not None

    all_told = told(spec_with(), images)[0][1].labels
    some_told = told(spec_with(objective={"label_dropout": 0.4}), images)[0][1].labels

    assert all_told is not None
    assert some_told is not None
    assert torch.equal(all_told, expected)
    kept = some_told != NO_CLASS
    assert 0 < int(kept.sum()) < 16
    assert torch.equal(some_told[kept], expected[kept])


def test_augmented_images_come_with_what_was_done_to_them(images: ImageSet) -> None:
    plain, augmented = (
        told(spec_with(augmentation=augmentation), images)[0] for augmentation in (None, {"probability": 0.12})
    )
    x, conditions = augmented

    assert plain[1].augmentation is None
    assert conditions.augmentation is not None
    untouched = (conditions.augmentation == 0).all(dim=1)
    same = torch.tensor([torch.allclose(a, b) for a, b in zip(x, plain[0], strict=True)])
    assert 0 < int(untouched.sum()) < 16
    assert torch.equal(same, untouched)


def test_target_regresses_on_the_moving_average(images: ImageSet) -> None:
    spec = spec_with(objective={"consistency": {"estimator": "target", "batch_fraction": 0.5}})

    def term_after(change: float) -> Tensor:
        state = new_state(spec, images.manifest, CPU)
        with torch.no_grad():
            for parameter in state.ema.parameters():
                parameter.add_(change)
        return Trainer(state, images, spec, ALONE).step().terms.consistency

    assert not torch.allclose(term_after(0.0), term_after(0.05))


def test_the_optimizer_goes_by_the_schedule(images: ImageSet) -> None:
    spec = spec_with(optimizer={"learning_rate": 1e-3, "warmup_images": 320})
    state = new_state(spec, images.manifest, CPU)
    trainer = Trainer(state, images, spec, ALONE)

    for _ in range(3):
        expected = learning_rate(spec, state.images_seen)
        trainer.step()
        assert [group["lr"] for group in state.optimizer.param_groups] == [expected]


def test_adam_is_the_configured_one(images: ImageSet) -> None:
    spec = spec_with(network=MLP, optimizer={"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6})

    (group,) = new_state(spec, images.manifest, CPU).optimizer.param_groups

    assert (group["betas"], group["eps"]) == ((0.8, 0.95), 1e-6)


@pytest.mark.parametrize(
    ("preconditioning", "low", "high"),
    [
        ({"kind": "edm", "p_mean": 1.0, "p_std": 0.01}, math.exp(0.95), math.exp(1.05)),
        ({"kind": "vp", "beta_d": 2.0}, 0.0, math.sqrt(math.exp(1.1) - 1)),
        ({"kind": "ve", "sigma_min": 1.0, "sigma_max": 1.3}, 1.0, 1.3),
    ],
    ids=["edm", "vp", "ve"],
)
def test_noise_levels_are_drawn_as_configured(
    images: ImageSet, preconditioning: dict[str, Any], low: float, high: float
) -> None:
    sampler = {"sigma_min": 1.1, "sigma_max": 1.2}
    spec = spec_with(network=MLP, preconditioning=preconditioning, sampler=sampler)

    sigma = Trainer(new_state(spec, images.manifest, CPU), images, spec, ALONE).step().terms.sigma

    assert low <= float(sigma.min()) < float(sigma.max()) <= high


def test_labels_are_dropped_as_often_as_configured() -> None:
    images = random_images(count=16, resolution=8, num_classes=2)
    network, objective = MLP | {"class_conditional": True}, {"consistency": None, "label_dropout": 0.3}
    cadence = {"log_images": 2000, "checkpoint_images": 2000}
    spec = spec_with(network=network, objective=objective, batch_images=2000, duration_images=2000, cadence=cadence)

    labels = told(spec, images)[0][1].labels

    assert labels is not None
    assert float((labels == NO_CLASS).float().mean()) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("initial_weights", [None, "/somewhere.safetensors"], ids=["untrained", "trained"])
@pytest.mark.parametrize(
    "ema",
    [
        {"kind": "exponential", "halflife_images": 24, "rampup_ratio": 0.5},
        {"kind": "power", "relative_widths": [0.1, 0.2]},
    ],
    ids=["exponential", "power"],
)
def test_averages_follow_the_weights_by_the_images_seen(ema: dict[str, Any], initial_weights: str | None) -> None:
    images = random_images(count=16, resolution=8)
    spec = spec_with(network=MLP, ema=ema, initial_weights=initial_weights, objective={"consistency": None})
    state = _moved(new_state(spec, images.manifest, CPU))
    trainer = Trainer(state, images, spec, ALONE)
    expected = [_weights(each) for each in state.averages]

    for seen in (16, 32, 48, 64):
        trainer.step()
        shares = decays(spec.ema, batch_images=16, images_seen=seen, starts_trained=initial_weights is not None)
        expected = [
            share * average + (1 - share) * _weights(state.denoiser)
            for share, average in zip(shares, expected, strict=True)
        ]
        for average, values in zip(state.averages, expected, strict=True):
            assert torch.allclose(_weights(average), values, atol=1e-6)


def test_edm2_weights_are_normalised_after_a_step() -> None:
    sizes = {"channels": 8, "channel_multipliers": [1, 2], "blocks_per_level": 1, "attention_resolutions": [4]}
    spec = spec_with(network={"kind": "edm2"} | sizes, optimizer={"learning_rate": 0.1})
    images = random_images(count=16, resolution=8)
    state = new_state(spec, images.manifest, CPU)

    for _ in range(2):  # the first moves the gain only, which starts at 0
        Trainer(state, images, spec, ALONE).step()

    weight = state.denoiser.network.get_parameter("first.weight")
    assert torch.allclose(weight.square().mean(dim=(1, 2, 3)), torch.ones(len(weight)), atol=1e-3)


def test_precision_reaches_the_denoiser_and_its_averages(images: ImageSet) -> None:
    compute = {"workers": 1, "accelerator": "cpu", "precision": "bfloat16"}
    state = new_state(spec_with(compute=compute), images.manifest, CPU)

    assert {denoiser.precision for denoiser in (state.denoiser, *state.averages)} == {torch.bfloat16}


def test_guidance_changes_the_grid(images: ImageSet) -> None:
    spec = spec_with(objective={"label_dropout": 0.1}, sampler={"steps": 3})
    state = _moved(new_state(spec, images.manifest, CPU))
    guided = spec.model_copy(update={"sampler": spec.sampler.model_copy(update={"guidance": 4.0})})

    plain, other = (draw_grid(state.ema, each, images.manifest, ALONE) for each in (spec, guided))

    assert plain != other
    assert plain == draw_grid(state.ema, spec, images.manifest, ALONE)


def test_each_pass_for_a_grid_is_a_sign_of_life(images: ImageSet) -> None:
    spec = spec_with(sampler={"method": "euler", "steps": 3}, objective={"consistency": None})
    state = new_state(spec, images.manifest, CPU)
    split = spec.model_copy(update={"compute": spec.compute.model_copy(update={"microbatch_images": 4})})
    passes = []

    draw_grid(state.ema, split, images.manifest, ALONE, on_pass=lambda: passes.append(1))
    draw_grid(state.ema, split, images.manifest, ALONE)

    assert len(passes) == 3 * 80 // 4, "three steps for each four of ten rows of eight images, and of one grid alone"


@pytest.mark.parametrize(
    "sampler", [{"method": "ancestral", "steps": 3}, {"churn": {}, "steps": 3}], ids=["sde", "churn"]
)
def test_a_grid_of_a_stochastic_sampler_does_not_depend_on_how_it_is_split(
    images: ImageSet, sampler: dict[str, Any]
) -> None:
    spec = spec_with(sampler=sampler, objective={"consistency": None})
    state = _moved(new_state(spec, images.manifest, CPU))
    split = spec.model_copy(update={"compute": spec.compute.model_copy(update={"microbatch_images": 4})})

    whole, parts = (_pixels(draw_grid(state.ema, each, images.manifest, ALONE)) for each in (spec, split))

    assert np.abs(whole - parts).max() <= 1  # the order of sums differs, so a value may be rounded the other way


def _weights(denoiser: Denoiser) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in denoiser.parameters()])


def _pixels(png: bytes) -> Int[np.ndarray, "height width"]:
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


def _moved(state: TrainState) -> TrainState:
    with torch.no_grad():
        for parameter in state.ema.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return state
