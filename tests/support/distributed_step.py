"""Take one optimizer step per estimator, in one process or in several, and write the gradients.

    python -m tests.support.distributed_step FOLDER LAYOUT ...

A layout says in how many processes, for how many workers of the document (fewer may have been started), and how many
images each takes at once: `3-4-4`. `FOLDER/3-4-4/<estimator>.safetensors` then has the losses and gradients of a step.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.multiprocessing import start_processes

from tests.support.images import random_images
from tests.support.ray_head import free_ports
from tests.support.specs import smoke_spec
from workers.contract.compute import Compute
from workers.training.state import new_state
from workers.training.step import Trainer
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


@dataclass(frozen=True, slots=True)
class Layout:
    """How a batch is split."""

    processes: int
    workers: int
    microbatch_images: int

    @classmethod
    def parse(cls, text: str) -> "Layout":
        return cls(*map(int, text.split("-")))

    def __str__(self) -> str:
        return f"{self.processes}-{self.workers}-{self.microbatch_images}"


def main(folder: Path, layouts: list[Layout]) -> None:
    """Processes are forked, before anything is computed, so that PyTorch is imported once."""
    for layout in layouts:
        (folder / str(layout)).mkdir()
        start_processes(  # type: ignore[no-untyped-call] # untyped in torch
            _step, (layout, folder / str(layout), free_ports(1)[0]), nprocs=layout.processes, start_method="fork"
        )


def _step(rank: int, layout: Layout, folder: Path, port: int) -> None:
    """What torchrun would have said goes by the environment."""
    if layout.processes > 1:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(layout.processes)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    world = World.from_environment(Compute(accelerator="cpu"))
    images = random_images(count=32, resolution=8, num_classes=3)
    compute = {"workers": layout.workers, "accelerator": "cpu", "microbatch_images": layout.microbatch_images}
    for estimator in ESTIMATORS:
        spec = smoke_spec(
            network=NETWORK,
            augmentation={"probability": 0.3},
            objective={"consistency": {"estimator": estimator, "batch_fraction": 0.5}, "label_dropout": 0.2},
            compute=compute,
        )
        state = new_state(spec, images.manifest, world.device)
        step = Trainer(state, images, spec, world).step()
        losses = torch.stack(
            [step.terms.dsm.sum() / spec.batch_images, step.terms.consistency.sum() / spec.consistency_images]
        )
        found = {name: parameter.grad for name, parameter in state.denoiser.network.named_parameters()}
        found |= {"losses": world.all_reduce(losses), "gradient_norm": step.gradient_norm}
        if world.is_first:
            save_file(found, folder / f"{estimator}.safetensors")
    world.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Layout.parse(text) for text in sys.argv[2:]])
