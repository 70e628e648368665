"""A training as a folder that stands for itself: the weights of one checkpoint, and how they came about."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError

from workers.contract.curves import what_differs
from workers.contract.data import DatasetManifest
from workers.contract.document import SpecError, problems_of
from workers.contract.evaluation import Evaluation
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.model import effective_sigma_data
from workers.contract.records import CheckpointFile, CheckpointManifest
from workers.contract.sampling import CheckpointSource, ResolvedCheckpoint
from workers.contract.spec import TrainSpec
from workers.jobs.attempt import Job, job_in
from workers.jobs.failures import UsageError
from workers.sampling.network import SAMPLER, Trained, find_source
from workers.storage import ObjectStore, open_store
from workers.storage.job_folder import attempt_numbers, committed_checkpoints
from workers.tools.refusals import refusals
from workers.tracking.findings import evaluations_of
from workers.tracking.journal import recorded_values
from workers.training.checkpoint import listed, read_file, read_manifest
from workers.training.snapshot import average_file
from workers.training.state import new_denoiser, num_parameters
from workers.training.weights import save_weights
from workers.training.weights_header import WeightsHeader

GRID_FILE = "samples.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A checkpoint of a job, and the file of it whose weights are exported."""

    job: Job
    trained: Trained
    source: ResolvedCheckpoint
    manifest: CheckpointManifest
    file: CheckpointFile
    origin: Mapping[str, Any] | None  # of a fork: `job_id` and `images_seen` of the checkpoint that it goes on from

    @property
    def weights(self) -> str:
        """The key of that file."""
        return self.source.folder + self.file.name


@refusals()
def chosen(folder: str, output: Path, *, images_seen: int | None = None, average: str | None = None) -> Choice:
    """What is to be exported into an output folder, which must be empty or not there yet. No weights are read.

    `folder`: `<store>/jobs/<id>`; `images_seen`: at the checkpoint, None: the last; `average`: `ema`, `ema-0.050` by
    its width, or `network`; None: that of sample grids.

    Raises:
        UsageError: there is something in the output folder, the job is no training, or has no such checkpoint (the
            message says which it has), or its manifest is not the one that was written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} is there and not empty: choose another --output")
    job = job_in(folder)
    store = job.open_store()
    try:
        wanted = CheckpointSource(job_id=job.job_id, images_seen=images_seen, average=average)
        trained = Trained(job.job_id, job.training, Trained.of(store, job.job_id).images)
        source = find_source(store, trained, wanted)
    except SpecError as error:  # its field is one of a document, which nobody has written here
        raise UsageError(error.reason) from None
    except ValidationError as error:
        raise UsageError("; ".join(map(str, problems_of(error)))) from None
    manifest = read_manifest(store, source.folder)
    return Choice(
        job=job,
        trained=trained,
        source=source,
        manifest=manifest,
        file=listed(manifest, average_file(source.average)),
        origin=_origin(store, job.keys),
    )


@refusals()
def export(choice: Choice, output: Path) -> str:
    """Write the folder; return, in words, which checkpoint and average it holds.

    Raises:
        UsageError: the weights are not those that were written, or the folder cannot be written.
    """
    store, keys = choice.job.open_store(), choice.job.keys
    trained, evaluations = choice.trained, evaluations_of(store, keys)
    grid = _found(store, keys.sample(choice.source.images_seen))
    output.mkdir(parents=True, exist_ok=True)
    _save_weights(choice, store, output / "weights.safetensors")
    for name, text in {
        "spec.json": trained.spec.model_dump_json(indent=2),
        "dataset.json": trained.images.model_dump_json(indent=2),
        "checkpoint.json": choice.manifest.model_dump_json(indent=2),
        "checkpoints.json": json.dumps(_manifests(store, keys), indent=2),
        "attempts.json": json.dumps(_attempts(store, keys), indent=2),
        "evaluations.json": json.dumps([each.model_dump(mode="json") for each in evaluations], indent=2),
        "metrics.csv": _metrics(store, keys),
        "requirements.txt": _versions(),
        "README.md": _card(
            choice, evaluations, _versions_of(store, keys, choice.source.attempt), has_grid=grid is not None
        ),
    }.items():
        (output / name).write_text(text + "\n", encoding="utf-8")
    if choice.origin:
        (output / "origin.json").write_text(json.dumps(choice.origin, indent=2) + "\n", encoding="utf-8")
    if grid is not None:
        (output / GRID_FILE).write_bytes(grid)
    return f"{choice.source.average} at {choice.source.images_seen} images; see its README.md"


@refusals()
def register(choice: Choice, output: Path, name: str, *, store_url: str | None = None) -> str:
    """Make what was exported to `output` a version of the model `name` in MLflow's registry; return which.

    Its files go to the store at `store_url`; None: the job's. Where MLflow and the store are, and what opens them, is
    told by the environment (MLFLOW_TRACKING_URI, AWS_*).

    Raises:
        UsageError: MLflow or the store has refused it.
    """
    from mlflow.exceptions import MlflowException  # a second to import, and most do without

    from workers.tracking.registry import register as register_folder

    place = store_url or choice.job.store_url
    try:
        version = register_folder(output, choice.source, open_store(place), place, name=name)
    except MlflowException as error:
        raise UsageError(f"--register: MLflow has refused it: {error.message}") from None
    return f"registered as version {version} of {name}"


def _save_weights(choice: Choice, store: ObjectStore, path: Path) -> None:
    spec, images, source = choice.trained.spec, choice.trained.images, choice.source
    extra = {
        "source": source.job_id,
        "images_seen": str(source.images_seen),
        "average": source.average,
        SAMPLER: spec.sampler.model_dump_json(),
    }
    sigma_data = effective_sigma_data(spec.preconditioning, images.sigma_data)
    header = WeightsHeader.of(spec, images, sigma_data=sigma_data, extra=extra)
    save_weights(path, safetensors.torch.load(read_file(store, choice.source.folder, choice.file)), header)


def _found(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except FileNotFoundError:
        return None


def _origin(store: ObjectStore, keys: JobKeys) -> Mapping[str, Any] | None:
    """As it lies there: whoever has a key alone does not know of which attempt the checkpoint is."""
    document = _found(store, keys.origin)
    origin: Mapping[str, Any] | None = json.loads(document) if document else None
    return origin


def _manifests(store: ObjectStore, keys: JobKeys) -> list[object]:
    return [json.loads(store.get(folder + MANIFEST)) for folder in committed_checkpoints(store, keys)]


def _attempts(store: ObjectStore, keys: JobKeys) -> list[dict[str, Any]]:
    """What each attempt ran on, if it has said so."""
    numbers = attempt_numbers(store, keys)
    return [{"attempt": number, "versions": _versions_of(store, keys, number)} for number in numbers]


def _versions_of(store: ObjectStore, keys: JobKeys, attempt: int) -> dict[str, str]:
    """Out of its progress, of which whoever has a key alone gets no more than this."""
    document = _found(store, keys.attempt(attempt).progress)
    versions: dict[str, str] = json.loads(document).get("versions", {}) if document else {}
    return versions


def _metrics(store: ObjectStore, keys: JobKeys) -> str:
    """Every value that was measured; the later attempt's where two have the same images."""
    rows: Mapping[int, Mapping[str, float]] = recorded_values(store, keys)
    names = sorted({name for row in rows.values() for name in row})
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["images_seen", *names], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"images_seen": seen, **row} for seen, row in sorted(rows.items()))
    return buffer.getvalue().rstrip("\n")


def _versions() -> str:
    """What is installed here, which is what the workers have where both are installed from the lock."""
    found = {each.metadata["Name"]: each.version for each in distributions()}
    return "\n".join(f"{name}=={version}" for name, version in sorted(found.items(), key=lambda pair: pair[0].lower()))


def _card(choice: Choice, evaluations: Sequence[Evaluation], versions: Mapping[str, str], *, has_grid: bool) -> str:
    spec, images, source, manifest = choice.trained.spec, choice.trained.images, choice.source, choice.manifest
    term = spec.objective.consistency
    how = f"consistency by `{term.estimator}`, weight {term.weight:g}" if term else "no consistency term"
    size = f"{images.resolution}x{images.resolution}, {images.channels} channels"
    here = [each for each in evaluations if each.checkpoint.images_seen == manifest.images_seen]
    ran_on = f" Trained with {', '.join(f'{name} {each}' for name, each in versions.items())}." if versions else ""
    drawn_from = choice.trained.subject.averages[0]
    grid = f"\n\n`{GRID_FILE}` was drawn at this checkpoint from the average `{drawn_from}`." if has_grid else ""
    return f"""# {source.job_id} at {manifest.images_seen:,} images

A diffusion model of {images.num_images:,} images: {size}, {images.num_classes or "no"} classes; image set
{images.digest}.
Network `{spec.network.kind}` of {_count_parameters(spec, images):,} parameters, denoising score matching with {how};
weights are the average `{source.average}`.{ran_on}

    from workers.sampling.handover import open_model
    model = open_model("weights.safetensors")
    pixels = model.draw(range(16))  # uint8 [16, channels, height, width], a function of these seeds

{_repetition(choice.origin)}

`metrics.csv` has its curves, `checkpoints.json` all of its checkpoints with their digests, `evaluations.json` all that
was measured, `attempts.json` what each attempt ran on, `requirements.txt` what was installed where this was
written.{grid}

## Measured at this checkpoint
{_measured(here)}"""


def _measured(evaluations: Sequence[Evaluation]) -> str:
    """A table, with a column for whatever they were not all measured alike by."""
    if not evaluations:
        return "Nothing."
    differing = what_differs(evaluations)
    rows = [
        (
            *(name, measure.text, "" if measure.lowest is None else f"{measure.lowest:.4g}"),
            *(f"{each.num_images} x {each.repeats}", each.checkpoint.average),
            *(values[number] for values in differing.values()),
        )
        for number, each in enumerate(evaluations)
        for name, measure in each.measures.items()
    ]
    head = ("measure", "value +- standard error", "smallest repeat", "images", "average", *differing)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _count_parameters(spec: TrainSpec, images: DatasetManifest) -> int:
    with torch.device("meta"):
        return num_parameters(new_denoiser(spec, images).network)


def _repetition(origin: Mapping[str, Any] | None) -> str:
    """How to train it again."""
    if origin is None:
        return "`spec.json` trains it again on the image set of `dataset.json`."
    return (
        f"It goes on from {origin['job_id']} at {origin['images_seen']:,} images (`origin.json`): from that checkpoint "
        "alone\n`spec.json` trains it again on the image set of `dataset.json`."
    )
