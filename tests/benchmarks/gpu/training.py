"""How fast the presets' networks train: the product's whole step, in each precision, as written and compiled."""

import gc
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.gpu.effort import Effort
from tests.support.images import random_images
from workers.contract.compute import Compute
from workers.contract.presets import PRESETS
from workers.contract.spec import TrainSpec, parse_spec
from workers.training.backend import configure_backend
from workers.training.state import TrainState, new_state
from workers.training.step import Trainer
from workers.training.world import World

PRECISIONS: Mapping[str, dict[str, Any]] = {
    "fp32": {"precision": "float32", "tf32": False},
    "TF32": {"precision": "float32", "tf32": True},
    "bf16": {"precision": "bfloat16", "tf32": True},
}
_TINY_NETWORK = {"channels": 8, "channel_multipliers": [1, 2], "blocks_per_level": 1, "attention_resolutions": [4]}
_TINY_IMAGES, _TINY_RESOLUTION = 8, 8
_PROFILED_STEPS = 3
# By what their names contain, the first that fits; what else there is computes element by element.
_KINDS = {
    "attention": "flash|fmha|attention|sdpa",
    "change of layout": "nchwToNhwc|nhwcToNchw|convertTensor|transpose",
    "convolution, matrix product": "conv|cudnn|cutlass|gemm|xmma|sm80_|sm90_|nvjet|dgrad|wgrad|fprop",
    "group norm": "group_?norm|GroupNorm|RowwiseMoments|FusedParams|InternalGradients|GammaBeta|ComputeBackward",
    "optimizer, average": "multi_tensor|lerp|adam",
    "copy": "copy|Memcpy|Memset|memcpy|CatArray",
    "reduction": "reduce|red_",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A preset's network, if need be with fewer blocks, and how many images one GPU trains it on at a time."""

    name: str
    preset: str
    batch_images: int
    resolution: int
    num_classes: int = 0
    blocks_per_level: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One network in one precision; `kinds` and `kernels`: milliseconds of a step, most first."""

    subject: Subject
    precision: str
    mode: str
    step_seconds: float
    flops: int | None
    peak_bytes: int
    kinds: tuple[tuple[str, float], ...]
    kernels: tuple[tuple[str, float], ...]

    @property
    def busy(self) -> float:
        """The share of a step in which the device has a kernel to run."""
        return sum(milliseconds for _, milliseconds in self.kinds) / (1e3 * self.step_seconds)


CIFAR10 = Subject("cifar10-uncond", "cifar10-uncond", batch_images=128, resolution=32)
FFHQ = Subject("ffhq-64", "ffhq-64", batch_images=64, resolution=64)
SUBJECTS = (
    CIFAR10,
    Subject("cifar10-1-block", "cifar10-uncond", batch_images=128, resolution=32, blocks_per_level=1),
    FFHQ,
    Subject("imagenet-64", "imagenet-64", batch_images=32, resolution=64, num_classes=1000),
)


def spec_for(subject: Subject, precision: str, *, compiled: bool, effort: Effort) -> TrainSpec:
    """The preset on one device, with the consistency term from the first image on."""
    document = PRESETS[subject.preset].model_dump(mode="json")
    accelerator = "gpu" if effort.on_gpu else "cpu"
    document["compute"] = {"accelerator": accelerator, "compile": compiled} | PRECISIONS[precision]
    document["objective"]["consistency"]["start"] = 0
    document["batch_images"] = _TINY_IMAGES if effort.tiny else subject.batch_images
    if subject.blocks_per_level:
        document["network"]["blocks_per_level"] = subject.blocks_per_level
    if effort.tiny:
        document["network"] |= _TINY_NETWORK
    return parse_spec(document)


def begun(spec: TrainSpec, subject: Subject, effort: Effort) -> tuple[TrainState, Trainer]:
    """A training of it on random images."""
    gc.collect()  # the memory of the one before
    torch.compiler.reset()
    configure_backend(spec.compute)
    resolution = _TINY_RESOLUTION if effort.tiny else subject.resolution
    images = random_images(count=1024, resolution=resolution, num_classes=subject.num_classes)
    state = new_state(spec, images.manifest, effort.device)
    return state, Trainer(state, images, spec, World.alone(effort.device))


def measured(subject: Subject, precision: str, *, compiled: bool, flops: int | None, effort: Effort) -> Measured:
    """Train for some steps; `flops` are those of a step if they are known, else they are counted, as written."""
    state, trainer = begun(spec_for(subject, precision, compiled=compiled, effort=effort), subject, effort)
    if not compiled and flops is None:
        flops = _counted(trainer)
    effort.warm_up(trainer.step)
    if effort.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = effort.seconds(trainer.step)
    peak = torch.cuda.max_memory_allocated() if effort.on_gpu else 0
    mode = "as written" if not compiled else "compiled" if state.denoiser.compiled else "did not compile"
    kernels = sorted(_kernels(trainer, effort), key=lambda each: -each[1])
    return Measured(subject, precision, mode, seconds, flops, peak, _by_kind(kernels), tuple(kernels[:15]))


def _counted(trainer: Trainer) -> int:
    """Multiplications and additions of matrix products and convolutions in a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        trainer.step()
    return int(counter.get_total_flops())


def ceiling(precision: str, effort: Effort) -> float:
    """Operations per second of a large square matrix product."""
    configure_backend(Compute(accelerator="cpu", **PRECISIONS[precision]))
    dtype, side = torch.bfloat16 if precision == "bf16" else torch.float32, effort.product_side
    a, b = torch.randn(2, side, side, device=effort.device, dtype=dtype)
    effort.warm_up(lambda: torch.mm(a, b))
    return 2 * side**3 / effort.seconds(lambda: torch.mm(a, b))


def _kernels(trainer: Trainer, effort: Effort) -> Iterator[tuple[str, float]]:
    """Every kernel with its milliseconds a step; without a GPU, every operation."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if effort.on_gpu else [])]
    with profile(activities=activities) as recorded:
        for _ in range(_PROFILED_STEPS):
            trainer.step()
        effort.settle()
    for event in recorded.key_averages():
        if not effort.on_gpu:
            yield event.key, event.self_cpu_time_total / 1e3 / _PROFILED_STEPS
        elif event.device_type.name == "CUDA" and not event.is_user_annotation:
            yield event.key, event.self_device_time_total / 1e3 / _PROFILED_STEPS


def _by_kind(kernels: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    totals: dict[str, float] = defaultdict(float)
    for name, milliseconds in kernels:
        found = (kind for kind, pattern in _KINDS.items() if re.search(pattern, name))
        totals[next(found, "element by element")] += milliseconds
    return tuple(sorted(totals.items(), key=lambda each: -each[1]))
