"""The presets of the paper's image sets have its networks; those that a CPU can bear take a real step at their size."""

import pytest
import torch

from tests.support.images import random_images
from workers.contract.presets import PRESETS
from workers.contract.spec import parse_spec
from workers.training.state import new_denoiser, new_state
from workers.training.step import Trainer
from workers.training.world import World

CPU = torch.device("cpu")
PAPER_SETS = {
    "cifar10-uncond": (32, 0, 55_733_891),
    "cifar10-cond": (32, 10, 55_735_299),
    "afhqv2-64": (64, 0, 61_805_571),
    "ffhq-64": (64, 0, 61_805_571),
}
IMAGENET_PARAMETERS = 295_899_267  # most of a minute for a step; `make bench` takes them on a GPU


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", PAPER_SETS)
def test_a_preset_of_the_paper_s_image_sets_takes_a_step(name: str) -> None:
    """One image with the consistency term, which costs as much as three: these networks are large for a CPU."""
    resolution, num_classes, num_parameters = PAPER_SETS[name]
    document = PRESETS[name].model_dump(mode="json")
    document |= {"batch_images": 1, "cadence": {"log_images": 1, "checkpoint_images": 1}}
    # bfloat16 takes minutes on a CPU that has no instructions for it
    document["compute"] |= {"accelerator": "cpu", "workers": 1, "microbatch_images": None, "precision": "float32"}
    document["objective"]["consistency"] |= {"batch_fraction": 1.0, "start": 0.0}
    spec = parse_spec(document)
    images = random_images(count=1, resolution=resolution, num_classes=num_classes)
    state = new_state(spec, images.manifest, CPU)

    step = Trainer(state, images, spec, World.alone(CPU)).step()

    assert sum(parameter.numel() for parameter in state.denoiser.parameters()) == num_parameters
    assert 0.2 < float(step.terms.dsm) < 5.0  # the preconditioning makes it about 1 before anything is learnt
    assert bool(step.terms.consistency.isfinite().all())
    assert float(step.gradient_norm) > 0
    assert state.images_seen == 1


def test_the_preset_of_imagenet_has_the_paper_s_network() -> None:
    images = random_images(count=1, resolution=64, num_classes=1000)

    with torch.device("meta"):
        denoiser = new_denoiser(PRESETS["imagenet-64"], images.manifest)

    assert sum(parameter.numel() for parameter in denoiser.parameters()) == IMAGENET_PARAMETERS
