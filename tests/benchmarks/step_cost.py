"""What one optimizer step costs with each estimator, relative to plain diffusion training (DSM), in CPU time.

    python -m tests.benchmarks.step_cost [--repeats 7] [--output docs/benchmarks/step_cost.md]

Timed is the product's whole step (`Trainer.step`): images, augmentation, forward and backward passes, Adam and the
moving average, on one thread. All estimators train the same network in turn, in an order that reverses with every
repeat, so that a slow moment of the machine hits neighbours alike; ratios are taken within a repeat. Network and batch
are those that the released code was measured with: a DDPM++ of 3.5 million parameters, 16 images of 32x32.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from tests.benchmarks import hardware
from tests.benchmarks.evaluations import Evaluations, counted
from tests.support.images import random_images
from workers.contract.compute import Compute
from workers.contract.consistency import Antithetic4, Asymmetric, Consistency, Paper, Symmetric, Target
from workers.contract.data import Augmentation, BuiltinDataset
from workers.contract.model import Objective
from workers.contract.networks import DDPMpp
from workers.contract.spec import Cadence, TrainSpec
from workers.training.state import TrainState, new_state
from workers.training.step import Trainer
from workers.training.world import World

BATCH, RESOLUTION = 16, 32
NETWORK = DDPMpp(kind="ddpmpp", channels=32, channel_multipliers=(2, 2, 2), blocks_per_level=4, dropout=0.13)
TINY = DDPMpp(kind="ddpmpp", channels=8, channel_multipliers=(1,), blocks_per_level=1, dropout=0.13)
TERMS: dict[str, Consistency | None] = {
    "DSM": None,
    "symmetric": Symmetric(estimator="symmetric", batch_fraction=1),
    "symmetric, 1/4 of the batch": Symmetric(estimator="symmetric", batch_fraction=0.25),
    "the same, dropout off": Symmetric(estimator="symmetric", batch_fraction=0.25, dropout="off"),
    "asymmetric": Asymmetric(estimator="asymmetric", batch_fraction=1),
    "asymmetric, 1/4": Asymmetric(estimator="asymmetric", batch_fraction=0.25),
    "target": Target(estimator="target", batch_fraction=1),
    "target, 1/4": Target(estimator="target", batch_fraction=0.25),
    "antithetic4, 1/4": Antithetic4(estimator="antithetic4", batch_fraction=0.25),
    "paper": Paper(estimator="paper"),
}


@dataclass(slots=True)
class Row:
    """What was found out about one estimator; seconds of CPU for a step, by repeat."""

    name: str
    evaluations: Evaluations
    saved_bytes: int
    seconds: list[float]


class SavedForBackward(AbstractContextManager["SavedForBackward"]):
    """Counts the memory that graphs keep for their backward passes: each storage once, parameters not at all."""

    def __init__(self, module: nn.Module) -> None:
        self.num_bytes = 0
        self._known = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
        self._hooks = saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:  # alive until the backward pass, so an address is one storage
            self._known.add(storage.data_ptr())
            self.num_bytes += storage.nbytes()
        return tensor

    def __enter__(self) -> "SavedForBackward":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)


def spec_for(term: Consistency | None, network: DDPMpp) -> TrainSpec:
    """One network, whatever the estimator; the learning rate is small, for nothing is to be learned."""
    return TrainSpec(
        kind="train",
        dataset=BuiltinDataset(kind="builtin", name="fashion16"),  # for its place in the document: images are noise
        augmentation=Augmentation(probability=0.12),
        network=network,
        objective=Objective(consistency=term),
        compute=Compute(accelerator="cpu"),
        batch_images=BATCH,
        duration_images=10**9,
        cadence=Cadence(log_images=BATCH, checkpoint_images=BATCH),
    )


def trainers(network: DDPMpp) -> tuple[TrainState, dict[str, Trainer]]:
    """A trainer for each estimator; all of them train the same state."""
    cpu = torch.device("cpu")
    images = random_images(count=64, resolution=RESOLUTION)
    state = new_state(spec_for(None, network), images.manifest, cpu)
    return state, {
        name: Trainer(state, images, spec_for(term, network), World.alone(cpu)) for name, term in TERMS.items()
    }


def inspected(name: str, trainer: Trainer, state: TrainState) -> Row:
    """Count what a step does; it also warms up."""
    networks = (state.denoiser.network, state.ema.network)
    with counted(*networks, num_images=BATCH) as evaluations, SavedForBackward(state.denoiser) as saved:
        trainer.step()
    return Row(name, evaluations, saved.num_bytes, [])


def timed(step: Callable[[], object]) -> float:
    begin = time.process_time()
    step()
    return time.process_time() - begin


def measured(network: DDPMpp, repeats: int) -> tuple[list[Row], int]:
    """A row for each estimator, and the number of parameters."""
    state, of_term = trainers(network)
    rows = [inspected(name, trainer, state) for name, trainer in of_term.items()]
    for repeat in range(repeats):
        for row in rows if repeat % 2 else reversed(rows):
            row.seconds.append(timed(of_term[row.name].step))
        print(f"repeat {repeat + 1} of {repeats}: DSM {1e3 * rows[0].seconds[-1] / BATCH:.0f} ms an image", flush=True)
    return rows, sum(parameter.numel() for parameter in state.denoiser.parameters())


_PAGE = """\
# Cost of a training step by estimator

Written by `python -m tests.benchmarks.step_cost`. {hardware} One thread.

DDPM++ of {parameters:.2f} million parameters, {batch} images of {side}x{side}; dropout and augmentation on, Adam and
the moving average included; CPU time, median of {repeats} repeats. F counts forward passes per image, a backward pass
as two (evaluations are counted by hooks). Ratios are relative to DSM: in theory, of F; measured, of times within each
repeat: median [least, greatest]. Kept: memory per image for the backward pass, each storage counted once.

{table}
"""


def rendered(rows: Sequence[Row], parameters: int) -> str:
    """A page of Markdown with one table; ratios are to the first row, paired by repeat."""
    header = ["estimator", "evaluations with / without gradient", "F", "theory", "CPU ms an image", "measured", "kept"]
    table = [header, ["---"] * len(header), *(_cells(row, rows[0]) for row in rows)]
    return _PAGE.format(
        hardware=hardware.described(),
        parameters=parameters / 1e6,
        batch=BATCH,
        side=RESOLUTION,
        repeats=len(rows[0].seconds),
        table="\n".join(f"| {' | '.join(cells)} |" for cells in table),
    )


def _cells(row: Row, plain: Row) -> list[str]:
    evaluations = row.evaluations
    ratios = [ours / theirs for ours, theirs in zip(row.seconds, plain.seconds, strict=True)]
    return [
        row.name,
        f"{evaluations.with_gradient:g} / {evaluations.without:g}",
        f"{evaluations.cost:g}",
        f"{evaluations.cost / plain.evaluations.cost:.2f}",
        f"{1e3 * median(row.seconds) / BATCH:.0f}",
        f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]",
        f"{row.saved_bytes / BATCH / 2**20:.1f} MiB",
    ]


def profiled(network: DDPMpp) -> None:
    """Print where the time of a DSM step and of a step with the default term goes."""
    _, of_term = trainers(network)
    for name in ("DSM", "symmetric, 1/4 of the batch"):
        of_term[name].step()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            of_term[name].step()
        print(name, profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.step_cost")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/step_cost.md"))
    parser.add_argument("--tiny", action="store_true", help="a tiny network: to try the command out")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, write nothing")
    options = parser.parse_args()
    if options.tiny and options.output == parser.get_default("output"):
        parser.error("--tiny: results of no meaning go elsewhere; give an --output")
    torch.set_num_threads(1)
    network = TINY if options.tiny else NETWORK
    if options.profile:
        profiled(network)
        return
    page = rendered(*measured(network, options.repeats))
    print(page)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
