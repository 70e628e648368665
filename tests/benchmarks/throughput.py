"""How fast the presets' networks train on a GPU, in each precision, as written and compiled, and what limits them.

    python -m tests.benchmarks.throughput [--output docs/benchmarks/throughput.md]

Timed is the product's whole step (`Trainer.step`) with the preset's own objective, the consistency term on.
Floating-point operations are those that PyTorch's counter finds in one step; they are set against those a second of a
large matrix product in the same precision, measured here too. Without a GPU this says so and ends.
"""

import argparse
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks import hardware
from tests.support.images import random_images
from workers.contract.presets import PRESETS
from workers.contract.spec import Compute, TrainSpec, parse_spec
from workers.training.backend import configure_backend
from workers.training.loop import Trainer
from workers.training.state import TrainState, new_state
from workers.training.world import World

PRECISIONS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "float32", "tf32": False},
    "TF32": {"precision": "float32", "tf32": True},
    "bf16": {"precision": "bfloat16", "tf32": True},
}
_TINY_NETWORK = {"channels": 8, "channel_multipliers": [1, 2], "blocks_per_level": 1, "attention_resolutions": [4]}


@dataclass(frozen=True, slots=True)
class Subject:
    """A preset's network, and how many images one GPU trains it on at a time."""

    preset: str
    batch_images: int
    resolution: int
    num_classes: int = 0


@dataclass(frozen=True, slots=True)
class Effort:
    """On which device, and how long."""

    device: torch.device
    tiny: bool
    warm_up_steps: int
    timed_steps: int
    product_side: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One network in one precision. `kernels`: the ten that take most time, in milliseconds of a step."""

    subject: Subject
    precision: str
    mode: str
    step_seconds: float
    flops: int
    peak_bytes: int
    kernels: tuple[tuple[str, float], ...]


SUBJECTS = (
    Subject("cifar10-uncond", batch_images=128, resolution=32),
    Subject("ffhq-64", batch_images=64, resolution=64),
    Subject("imagenet-64", batch_images=32, resolution=64, num_classes=1000),
)


def spec_for(subject: Subject, precision: str, *, compiled: bool, effort: Effort) -> TrainSpec:
    """The preset on one device, with the consistency term from the first image on."""
    document = PRESETS[subject.preset].model_dump(mode="json")
    accelerator = "gpu" if effort.device.type == "cuda" else "cpu"
    document["compute"] = {"accelerator": accelerator, "compile": compiled} | PRECISIONS[precision]
    document["objective"]["consistency"]["start"] = 0
    document["batch_images"] = subject.batch_images
    if effort.tiny:
        document["network"] |= _TINY_NETWORK
    return parse_spec(document)


def measured(subject: Subject, precision: str, *, compiled: bool, flops: int, effort: Effort) -> Measured:
    """Train for some steps; `flops` are those of a step."""
    state, trainer = _trainer(spec_for(subject, precision, compiled=compiled, effort=effort), subject, effort)
    for _ in range(effort.warm_up_steps):
        trainer.step()
    if effort.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = _seconds(trainer.step, effort.timed_steps, effort.device)
    peak = torch.cuda.max_memory_allocated() if effort.device.type == "cuda" else 0
    mode = "as written" if not compiled else "compiled" if state.denoiser.compiled else "did not compile"
    return Measured(subject, precision, mode, seconds, flops, peak, _slowest_kernels(trainer, effort.device))


def flops_of_step(subject: Subject, effort: Effort) -> int:
    """Multiplications and additions of matrix products and convolutions, forward and backward."""
    _, trainer = _trainer(spec_for(subject, "fp32", compiled=False, effort=effort), subject, effort)
    with FlopCounterMode(display=False) as counter:
        trainer.step()
    return counter.get_total_flops()


def ceiling(precision: str, effort: Effort) -> float:
    """Operations per second of a large square matrix product."""
    configure_backend(Compute(accelerator="cpu", **PRECISIONS[precision]))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(2, effort.product_side, effort.product_side, device=effort.device, dtype=dtype)
    for _ in range(3):
        torch.mm(a, b)
    return 2 * effort.product_side**3 / _seconds(lambda: torch.mm(a, b), 20, effort.device)


def _trainer(spec: TrainSpec, subject: Subject, effort: Effort) -> tuple[TrainState, Trainer]:
    torch.compiler.reset()
    configure_backend(spec.compute)
    images = random_images(count=1024, resolution=subject.resolution, num_classes=subject.num_classes)
    state = new_state(spec, images.manifest, effort.device)
    return state, Trainer(state, images, spec, World.alone(effort.device))


def _seconds(call: Any, times: int, device: torch.device) -> float:
    """Mean wall time of a call, the device's work included."""

    def settled() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    begin = settled()
    for _ in range(times):
        call()
    return (settled() - begin) / times


def _slowest_kernels(trainer: Trainer, device: torch.device) -> tuple[tuple[str, float], ...]:
    on_gpu, steps = device.type == "cuda", 3
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as recorded:
        for _ in range(steps):
            trainer.step()
    times = [
        (event.key, (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e3 / steps)
        for event in recorded.key_averages()
        if not on_gpu or event.device_type == torch.autograd.DeviceType.CUDA
    ]
    return tuple(sorted(times, key=lambda each: -each[1])[:10])


def rendered(rows: list[Measured], ceilings: dict[str, float]) -> str:
    """A table of all runs, then the slowest kernels of each network in the last precision."""
    parts = [
        "# Training throughput\n",
        f"Written by `python -m tests.benchmarks.throughput`. {hardware.described()} One device; the whole training",
        "step, consistency term as in the preset. Ceiling, of a large matrix product measured here: "
        + ", ".join(f"{name} {value / 1e12:.1f} TFLOP/s" for name, value in ceilings.items())
        + ".\n",
        "| preset | images | precision | mode | ms a step | images/s | TFLOP/s | of ceiling | peak memory |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(row, ceilings[row.precision]) for row in rows),
        "",
    ]
    for row in rows:
        if row.precision == list(PRECISIONS)[-1]:
            parts += [f"## {row.subject.preset}, {row.precision}, {row.mode}: where a step's time goes\n"]
            parts += ["| kernel | ms a step |", "| --- | --- |"]
            parts += [f"| `{name[:90].replace('|', '/')}` | {milliseconds:.2f} |" for name, milliseconds in row.kernels]
            parts += [""]
    return "\n".join(parts)


def _row(row: Measured, limit: float) -> str:
    images, achieved = row.subject.batch_images, row.flops / row.step_seconds
    numbers = f"{1e3 * row.step_seconds:.1f} | {images / row.step_seconds:.0f} | {achieved / 1e12:.2f}"
    share, memory = f"{100 * achieved / limit:.0f} %", f"{row.peak_bytes / 2**30:.1f} GiB"
    return f"| {row.subject.preset} | {images} | {row.precision} | {row.mode} | {numbers} | {share} | {memory} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.throughput")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/throughput.md"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # the tests' own: does it run at all
    options = parser.parse_args()
    if options.tiny and options.output == parser.get_default("output"):
        parser.error("--tiny: results of no meaning go elsewhere; give an --output")
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU: skipped")
        return
    effort = Effort(torch.device(options.device), options.tiny, *((1, 1, 128) if options.tiny else (10, 30, 8192)))
    subjects = [replace(each, batch_images=8, resolution=8) if options.tiny else each for each in SUBJECTS]
    precisions, modes = (list(PRECISIONS)[-1:], [False]) if options.tiny else (list(PRECISIONS), [False, True])
    ceilings = {precision: ceiling(precision, effort) for precision in precisions}
    rows = []
    for subject in subjects:
        flops = flops_of_step(subject, effort)
        for precision, compiled in product(precisions, modes):
            rows.append(measured(subject, precision, compiled=compiled, flops=flops, effort=effort))
            print(_row(rows[-1], ceilings[precision]), flush=True)
    page = rendered(rows, ceilings)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
