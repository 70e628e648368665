"""The page that is written of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.benchmarks import hardware
from tests.benchmarks.gpu.checkpoints import Stall
from tests.benchmarks.gpu.sampling import BATCH_IMAGES, Drawn
from tests.benchmarks.gpu.training import Measured

_HEAD = """\
# On a GPU

Written by `python -m tests.benchmarks.gpu`. {hardware} One device."""

_TRAINING = """\
## Training

The whole training step with the preset's own objective, including the consistency loss. TFLOP/s: counted
multiplications and additions of matrix products and convolutions, divided by the time of a step. Ceiling: a large
matrix product measured here, {ceilings}. Busy: time in kernels, divided by the time of a step. cifar10-1-block is
cifar10-uncond with one block per level."""
_TRAINING_HEADER = ["network", "images", "precision", "mode", "ms a step", "images/s"]
_TRAINING_HEADER += ["TFLOP/s", "of ceiling", "busy", "memory"]

_CHECKPOINTS = """\
## A checkpoint while training

ffhq-64 in bf16, {num_megabytes:.0f} MB of weights, average and moments, a step of {step:.0f} ms, to a local folder. The
loop stands still while the state is copied to page-locked memory, which the first checkpoint has to allocate. Lost:
that time, and what the steps until the commit took longer."""

_SAMPLING = """\
## Sampling

cifar10-uncond, Heun with 18 steps (35 evaluations), batches of {batch}."""


@dataclass(slots=True)
class Results:
    """What has been measured so far."""

    ceilings: dict[str, float] = field(default_factory=dict)
    training: list[Measured] = field(default_factory=list)
    checkpoints: tuple[float, list[Stall]] | None = None
    sampling: list[Drawn] = field(default_factory=list)


def page(results: Results) -> str:
    """All of it in Markdown."""
    parts = [_HEAD.format(hardware=hardware.described())]
    if results.training:
        parts += [_training(results.training, results.ceilings)]
    if results.checkpoints:
        parts += [_checkpoints(*results.checkpoints)]
    if results.sampling:
        parts += [_sampling(results.sampling)]
    return "\n\n".join(parts) + "\n"


def _training(rows: Sequence[Measured], ceilings: dict[str, float]) -> str:
    """A table of all runs; then where the time of each in bf16 goes."""
    said = ", ".join(f"{name} {value / 1e12:.0f} TFLOP/s" for name, value in ceilings.items())
    cells = [_row(row, ceilings[row.precision]) for row in rows]
    parts = [_TRAINING.format(ceilings=said), "", *_table(_TRAINING_HEADER, cells)]
    for row in rows:
        if row.precision == "bf16":
            kernels = [(f"`{_short(name)}`", milliseconds) for name, milliseconds in row.kernels]
            parts += ["", f"### {row.subject.name}, {row.precision}, {row.mode}", ""]
            parts += _table(["kind of kernel", "ms a step"], _timed(row.kinds))
            parts += ["", *_table(["kernel", "ms a step"], _timed(kernels))]
    return "\n".join(parts)


def _row(row: Measured, limit: float) -> list[str]:
    images = row.subject.batch_images
    speed = [f"{1e3 * row.step_seconds:.1f}", f"{images / row.step_seconds:.0f}"]
    achieved = row.flops and row.flops / row.step_seconds
    operations = [f"{achieved / 1e12:.1f}", f"{achieved / limit:.0%}"] if achieved else ["", ""]
    rest = [f"{row.busy:.0%}", f"{row.peak_bytes / 2**30:.1f} GiB"]
    return [row.subject.name, str(images), row.precision, row.mode, *speed, *operations, *rest]


def _checkpoints(step_seconds: float, found: Sequence[Stall]) -> str:
    """The first checkpoint, and the median of the others."""
    how = _CHECKPOINTS.format(num_megabytes=found[0].num_bytes / 1e6, step=1e3 * step_seconds)
    names = {"stood still": "stood_still", "committed after": "committed_after", "lost": "lost"}
    rows = []
    for name, attribute in names.items():
        first, *others = (1e3 * getattr(one, attribute) for one in found)
        rows.append([name, f"{first:.0f} ms", f"{median(others):.0f} ms"])
    return "\n".join([how, "", *_table(["", "the first", "the others"], rows)])


def _sampling(rows: Sequence[Drawn]) -> str:
    cells = [
        [row.precision, str(row.num_images), f"{row.seconds:.1f} s", f"{row.num_images / row.seconds:.0f}"]
        for row in rows
    ]
    return "\n".join(
        [_SAMPLING.format(batch=BATCH_IMAGES), "", *_table(["precision", "images", "time", "images/s"], cells)]
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows]]


def _timed(rows: Sequence[tuple[str, float]]) -> list[list[str]]:
    return [[name, f"{milliseconds:.2f}"] for name, milliseconds in rows]


def _short(kernel: str) -> str:
    """What tells kernels apart comes late in the names of PyTorch's own."""
    return kernel.replace("at::native::", "").replace("|", "/")[:160]
