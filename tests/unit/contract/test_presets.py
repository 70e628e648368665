"""The presets of the paper's image sets have the published constants of EDM (Karras et al. 2022, appendix F)."""

from typing import Any

import pytest

from workers.contract.consistency import Symmetric
from workers.contract.model import EDM, Churn
from workers.contract.presets import PRESETS
from workers.contract.spec import parse_spec

MILLION = 1_000_000
# batch, learning rate, dropout, augmentation, duration, half-life, sampler steps
PUBLISHED = {
    "cifar10-uncond": (512, 1e-3, 0.13, 0.12, 200 * MILLION, MILLION // 2, 18),
    "cifar10-cond": (512, 1e-3, 0.13, 0.12, 200 * MILLION, MILLION // 2, 18),
    "afhqv2-64": (256, 2e-4, 0.25, 0.15, 200 * MILLION, MILLION // 2, 40),
    "ffhq-64": (256, 2e-4, 0.05, 0.15, 200 * MILLION, MILLION // 2, 40),
    "imagenet-64": (4096, 1e-4, 0.10, None, 2500 * MILLION, 50 * MILLION, 256),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_constants(name: str) -> None:
    spec = PRESETS[name]
    augmentation = spec.augmentation.probability if spec.augmentation else None

    assert spec.dataset.kind == "zip"
    assert spec.ema.kind == "exponential"
    assert (
        spec.batch_images,
        spec.optimizer.learning_rate,
        spec.network.dropout,
        augmentation,
        spec.duration_images,
        spec.ema.halflife_images,
        spec.sampler.steps,
    ) == PUBLISHED[name]
    assert spec.preconditioning == EDM(kind="edm", p_mean=-1.2, p_std=1.2, sigma_data=0.5)
    assert (spec.optimizer.beta1, spec.optimizer.beta2) == (0.9, 0.999)
    pixels = 3 * (32 if "32x32" in spec.dataset.path else 64) ** 2  # that the published loss is a sum over, ours a mean
    loss_scale = 100 if name == "imagenet-64" else 1
    assert spec.optimizer.epsilon * pixels * loss_scale == pytest.approx(1e-8)
    assert spec.optimizer.warmup_images == 10 * MILLION
    assert (spec.sampler.method, spec.sampler.sigma_min, spec.sampler.sigma_max, spec.sampler.rho) == (
        "heun",
        0.002,
        80,
        7,
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_default_consistency_term_on_a_quarter_of_the_batch(name: str) -> None:
    assert PRESETS[name].objective.consistency == Symmetric(
        estimator="symmetric", batch_fraction=0.25, weight=1.0, start=0.3
    )


def test_only_imagenet_is_churned() -> None:
    churned = {name: PRESETS[name].sampler.churn for name in PUBLISHED if PRESETS[name].sampler.churn}

    assert churned == {"imagenet-64": Churn(amount=40, sigma_min=0.05, sigma_max=50, noise_scale=1.003)}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(
    ("part", "advised"),
    [
        ("cadence", {"checkpoint_images": "auto"}),
        ("compute", {"workers": 1}),
        ("compute", {"workers": 1, "microbatch_images": 16}),
        ("network", {"class_conditional": False}),
    ],
)
def test_a_preset_takes_what_the_documents_advise_to_set(name: str, part: str, advised: dict[str, Any]) -> None:
    document = PRESETS[name].model_dump(mode="json")

    changed = parse_spec(document | {part: document[part] | advised})

    assert all(getattr(getattr(changed, part), field) == value for field, value in advised.items())
