"""The page that is written of it."""

from collections.abc import Mapping, Sequence
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

The whole training step with the preset's own objective, the consistency term on. TFLOP/s: multiplications and additions
of matrix products and convolutions, counted, by the time of a step. Ceiling, of a large matrix product measured here:
{ceilings}. Busy: time in kernels, by the time of a step."""

_CHECKPOINTS = """\
## A checkpoint while training

ffhq-64 in bf16, {num_megabytes:.0f} MB of weights, average and moments, a step of {step:.0f} ms, to a local folder. The
loop stands still while the state is copied to page-locked memory, which the first checkpoint has to find. Lost: that,
and what the steps took longer until it was committed."""

_SAMPLING = """\
## Sampling

cifar10-uncond, Heun with 18 steps (35 evaluations), batches of {batch}."""


def training_section(rows: Sequence[Measured], ceilings: Mapping[str, float]) -> str:
    """A table of all runs; then where the time of each in bf16 goes."""
    said = ", ".join(f"{name} {value / 1e12:.0f} TFLOP/s" for name, value in ceilings.items())
    header = [
        "preset",
        "images",
        "precision",
        "mode",
        "ms a step",
        "images/s",
        "TFLOP/s",
        "of ceiling",
        "busy",
        "memory",
    ]
    parts = [
        _TRAINING.format(ceilings=said),
        "",
        *_table(header, [row_of(row, ceilings[row.precision]) for row in rows]),
    ]
    for row in rows:
        if row.precision == "bf16":
            parts += ["", f"### {row.subject.preset}, {row.precision}, {row.mode}", ""]
            parts += _table(["kind of kernel", "ms a step"], [_timed(*each) for each in row.kinds])
            parts += [
                "",
                *_table(["kernel", "ms a step"], [_timed(f"`{_short(name)}`", ms) for name, ms in row.kernels]),
            ]
    return "\n".join(parts)


def row_of(row: Measured, limit: float) -> list[str]:
    """Cells of the table of training."""
    images, achieved = row.subject.batch_images, row.flops / row.step_seconds
    speed = [f"{1e3 * row.step_seconds:.1f}", f"{images / row.step_seconds:.0f}", f"{achieved / 1e12:.1f}"]
    rest = [f"{achieved / limit:.0%}", f"{row.busy:.0%}", f"{row.peak_bytes / 2**30:.1f} GiB"]
    return [row.subject.preset, str(images), row.precision, row.mode, *speed, *rest]


def checkpoints_section(step_seconds: float, found: Sequence[Stall]) -> str:
    """The first checkpoint, and the median of the others."""
    how = _CHECKPOINTS.format(num_megabytes=found[0].num_bytes / 1e6, step=1e3 * step_seconds)
    names = {"stood still": "stood_still", "committed after": "committed_after", "lost": "lost"}
    later = {name: median(getattr(one, field) for one in found[1:]) for name, field in names.items()}
    rows = [
        [name, f"{1e3 * getattr(found[0], field):.0f} ms", f"{1e3 * later[name]:.0f} ms"]
        for name, field in names.items()
    ]
    return "\n".join([how, "", *_table(["", "the first", "the others"], rows)])


def sampling_section(rows: Sequence[Drawn]) -> str:
    """Images a second, and what 50,000 take at that rate."""
    cells = [
        [row.precision, row.mode, str(row.num_images), f"{row.seconds:.1f} s", f"{row.num_images / row.seconds:.0f}"]
        for row in rows
    ]
    header = ["precision", "mode", "images", "time", "images/s"]
    return "\n".join([_SAMPLING.format(batch=BATCH_IMAGES), "", *_table(header, cells)])


def page(sections: Sequence[str]) -> str:
    """All of Markdown."""
    return "\n\n".join([_HEAD.format(hardware=hardware.described()), *sections]) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows]]


def _timed(name: str, milliseconds: float) -> list[str]:
    return [name, f"{milliseconds:.2f}"]


def _short(name: str) -> str:
    return name[:90].replace("|", "/")
