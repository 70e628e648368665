"""Take one optimizer step per estimator and write the gradients.

    python -m tests.support.distributed_step FOLDER WORKERS [MICROBATCH_IMAGES]

Started alone or by torchrun; the first process writes `<estimator>.safetensors`, the losses and gradients of a step.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.support.images import random_images
from tests.support.specs import smoke_spec
from workers.contract.spec import Compute
from workers.training.loop import Trainer
from workers.training.state import new_state
from workers.training.world import World

ESTIMATORS = ("symmetric", "asymmetric", "antithetic4", "target", "paper")
NETWORK = {
    "kind": "ddpmpp",
    "channels": 8,
    "channel_multipliers": [1, 2],
    "blocks_per_level": 1,
    "attention_resolutions": [4],
    "dropout": 0.2,
    "class_conditional": True,
}


def main(folder: Path, workers: int, microbatch_images: int | None) -> None:
    """`workers`: how many the spec asks for; fewer may have been started."""
    world = World.from_environment(Compute(accelerator="cpu"))
    images = random_images(count=32, resolution=8, num_classes=3)
    for estimator in ESTIMATORS:
        spec = smoke_spec(
            network=NETWORK,
            augmentation={"probability": 0.3},
            objective={"consistency": {"estimator": estimator, "batch_fraction": 0.5}, "label_dropout": 0.2},
            compute={"workers": workers, "accelerator": "cpu", "microbatch_images": microbatch_images},
        )
        state = new_state(spec, images.manifest, world.device)
        step = Trainer(state, images, spec, world).step()
        losses = torch.stack(
            [step.terms.dsm.sum() / spec.batch_images, step.terms.consistency.sum() / spec.consistency_images]
        )
        found = {name: parameter.grad for name, parameter in state.denoiser.network.named_parameters()}
        found |= {"losses": world.sum(losses), "gradient_norm": step.gradient_norm}
        if world.is_first:
            save_file(found, folder / f"{estimator}.safetensors")
    world.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
