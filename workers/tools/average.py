"""Averages of other widths than those a job keeps: planned over its checkpoints, added up, written as weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from workers.contract.data import DatasetManifest
from workers.contract.model import PowerFunctionAverage, average_names
from workers.contract.records import CheckpointFile
from workers.diffusion.ema import power_exponent
from workers.diffusion.posthoc import Combination, Profile, combination
from workers.jobs.attempt import Job, job_in
from workers.jobs.failures import UsageError
from workers.sampling.network import SAMPLER
from workers.storage import ObjectStore
from workers.storage.job_folder import committed_checkpoints
from workers.tools.refusals import refusals
from workers.training.checkpoint import DamagedCheckpointError, read_file, read_manifest
from workers.training.snapshot import average_file
from workers.training.state import new_denoiser
from workers.training.weights import refuse_output, save_weights
from workers.training.weights_header import WeightsHeader

WIDEST = 0.28  # not included; the power function with gamma = 0 has 12^-0.5 = 0.289
_POOR = 0.05  # relative error of the profile


@dataclass(frozen=True, slots=True)
class Stored:
    """An average in a checkpoint, and the profile over the weights that it is."""

    profile: Profile
    folder: str
    file: CheckpointFile

    @property
    def key(self) -> str:
        return self.folder + self.file.name


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Which stored averages of a job make up a wanted one, and how well."""

    job: Job
    stored: tuple[Stored, ...]
    wanted: Profile
    relative_width: float
    combination: Combination

    @property
    def parts(self) -> tuple[tuple[float, Stored], ...]:
        """Those that count, with their coefficients."""
        pairs = zip(self.combination.coefficients, self.stored, strict=True)
        return tuple((coefficient, stored) for coefficient, stored in pairs if coefficient)

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of the objects that are read to carry it out, beside the job's documents."""
        return tuple(stored.key for _, stored in self.parts)

    @property
    def warning(self) -> str | None:
        """That it is a poor one, and what would make it better; None: it is good."""
        return f"a poor reconstruction: {self._mend()}" if self.combination.relative_error > _POOR else None

    def _mend(self) -> str:
        """Between two checkpoints a profile has an end that no combination can have."""
        times, wanted = sorted({stored.profile.images_seen for stored in self.stored}), self.wanted.images_seen
        if wanted not in times:
            nearest = min(times, key=lambda time: abs(time - wanted))
            return f"there is no checkpoint at {wanted} images; the nearest is --at {nearest}"
        return (
            f"too few checkpoints ({len(times)}) for this width; choose one nearer to those of the job, or save more "
            "often"
        )


@refusals()
def planned(
    folder: str, output: Path, *, relative_width: float, images_seen: int | None = None, force: bool = False
) -> Reconstruction:
    """Find the best combination for the average of that width at `images_seen`; None: at the last checkpoint.

    `folder`: `<store>/jobs/<id>`, of a job that keeps power-function averages (`ema.kind: power`). No weights are read.
    `output`: the safetensors file it is meant for; `force`: which it may replace.

    Raises:
        UsageError: there is nothing that it could be rebuilt from, or the output cannot be written.
    """
    refuse_output(output, force=force)
    job = job_in(folder)
    if not 0 < relative_width < WIDEST:
        raise UsageError(f"--relative-width: {relative_width:g} is out of range, must lie between 0 and {WIDEST}")
    config = job.training.ema
    if not isinstance(config, PowerFunctionAverage):
        raise UsageError(f"{job.job_id} keeps no power-function averages: train with ema.kind = power for that")
    stored = _stored(job, config)
    if not stored:
        every = job.training.cadence.checkpoint_images
        first = "in the first minutes of training" if every == "auto" else f"after {every} images"
        raise UsageError(f"{job.job_id} has no checkpoints yet: the first comes {first}")
    last = stored[-1].profile.images_seen
    if images_seen is not None and not 0 < images_seen <= last:
        raise UsageError(f"--at: {images_seen} is out of range, the last checkpoint is at {last}")
    wanted = Profile(power_exponent(relative_width), images_seen or last)
    found = combination([each.profile for each in stored], wanted)
    return Reconstruction(job, stored, wanted, relative_width, found)


def combined(
    parts: tuple[tuple[float, Stored], ...], store: ObjectStore, *, averaged: frozenset[str]
) -> dict[str, Tensor]:
    """Add up the tensors named in `averaged`, in float64, one file at a time; the others are constants of the network.

    Raises:
        UsageError: a file is missing or is not what was written.
    """
    sums: dict[str, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    for coefficient, stored in parts:
        with _whole(stored.folder):
            tensors = safetensors.torch.load(read_file(store, stored.folder, stored.file))
        for name in averaged:
            part = tensors[name].double() * coefficient
            sums[name] = sums[name].add_(part) if name in sums else part
    return {name: sums[name].to(tensor.dtype) if name in averaged else tensor for name, tensor in tensors.items()}


@refusals()
def write(plan: Reconstruction, output: Path) -> str:
    """Carry it out, and write the network's tensors with a header that tells how to build it again.

    Checkpoints are read and verified one file at a time. Returns, in words, what it is made of and how well.

    Raises:
        UsageError: a checkpoint is damaged, or the output cannot be written.
    """
    job, spec, store = plan.job, plan.job.training, plan.job.open_store()
    images = DatasetManifest.model_validate_json(store.get(job.keys.dataset))
    with torch.device("meta"):
        denoiser = new_denoiser(spec, images)
    averaged = frozenset(name for name, _ in denoiser.network.named_parameters())
    header = WeightsHeader.of(
        spec,
        images,
        sigma_data=denoiser.sigma_data,
        extra={
            "source": job.job_id,
            "images_seen": str(plan.wanted.images_seen),
            "relative_width": f"{plan.relative_width:g}",
            SAMPLER: spec.sampler.model_dump_json(),
        },
    )
    save_weights(output, combined(plan.parts, store, averaged=averaged), header)
    return (
        f"relative width {plan.relative_width:g} at {plan.wanted.images_seen} images, from {len(plan.parts)} of "
        f"{len(plan.stored)} stored averages; relative error of the profile: {plan.combination.relative_error:.2g}"
    )


def _stored(job: Job, config: PowerFunctionAverage) -> tuple[Stored, ...]:
    """All averages in committed checkpoints, oldest first; where several attempts passed, those of the latest."""
    store = job.open_store()
    files = dict(
        zip(map(average_file, average_names(config)), map(power_exponent, config.relative_widths), strict=True)
    )
    checkpoints: dict[int, list[Stored]] = {}
    for folder in committed_checkpoints(store, job.keys):
        with _whole(folder):
            manifest = read_manifest(store, folder)
        seen, listed = manifest.images_seen, [file for file in manifest.files if file.name in files]
        checkpoints[seen] = [Stored(Profile(files[file.name], seen), folder, file) for file in listed]
    return tuple(stored for seen, group in checkpoints.items() if seen for stored in group)


@contextmanager
def _whole(folder: str) -> Iterator[None]:
    """Name the checkpoint that is damaged."""
    try:
        yield
    except DamagedCheckpointError as error:
        raise UsageError(f"{folder} is damaged, remove it to go on without it: {error}") from None
