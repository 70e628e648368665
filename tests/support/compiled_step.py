"""Steps of two processes, compiled and not: the same, of pieces that were made before the first.

    python -m tests.support.compiled_step

Processes are forked before anything is computed: a compiler's threads do not live on in a fork.
"""

import torch
from torch._dynamo.utils import counters

from tests.support.gloo import in_processes, joined
from tests.support.images import random_images
from tests.support.specs import smoke_spec
from workers.training.state import new_state
from workers.training.step import Trainer
from workers.training.world import World


def main() -> None:
    """Raises what does not hold in one of them."""
    in_processes(2, _compiled_beside_plain)


def _compiled_beside_plain(rank: int, port: int) -> None:
    with joined(rank, 2, port) as world:
        plain, compiled = _gradient_norms(world, compiled=False), _gradient_norms(world, compiled=True)
        assert torch.allclose(compiled, plain, rtol=1e-3), (compiled, plain)


def _gradient_norms(world: World, *, compiled: bool) -> torch.Tensor:
    """Of four steps, the last two with the term."""
    images = random_images(count=32, resolution=8)
    spec = smoke_spec(
        network={"kind": "mlp", "width": 640},  # two layers of more than the MiB of DDP's first bucket
        objective={"consistency": {"estimator": "symmetric", "batch_fraction": 0.5, "start": 0.5}},
        compute={"workers": 2, "accelerator": "cpu", "compile": compiled},
        duration_images=64,
        cadence={"log_images": 16, "checkpoint_images": 64},
    )
    state = new_state(spec, images.manifest, world.device)
    trainer = Trainer(state, images, spec, world)
    graphs, pieces = _made()

    norms = torch.stack([trainer.step().gradient_norm for _ in range(4)])

    assert (state.denoiser.compiled is not None) is compiled
    assert (pieces > graphs > 0) is compiled, (pieces, graphs)
    assert _made() == (graphs, pieces), "something was compiled in a step"
    return norms


def _made() -> tuple[int, int]:
    """Graphs that were traced so far, and the pieces of them that were compiled."""
    return counters["stats"]["unique_graphs"], counters["aot_autograd"]["total"]


if __name__ == "__main__":
    main()
