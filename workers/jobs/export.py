"""A training as a folder that stands for itself: `python -m workers.jobs.export JOB --output FOLDER`.

JOB is `<store>/jobs/<id>`. The folder gets the weights of one checkpoint and everything that says how they came about.
With `--plan` it only says which object has the weights: whoever has no store fetches that one (`cdm export`).
"""

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from workers.contract.curves import what_differs
from workers.contract.data import DatasetManifest
from workers.contract.document import SpecError
from workers.contract.evaluation import Evaluation
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.model import effective_sigma_data
from workers.contract.records import CheckpointFile, CheckpointManifest
from workers.contract.sampling import CheckpointSource, ResolvedCheckpoint, Subject
from workers.contract.spec import TrainSpec
from workers.jobs.attempt import Job, job_in
from workers.jobs.failures import UsageError
from workers.sampling.network import SAMPLER, Trained, find_source
from workers.storage import ObjectStore, open_store
from workers.storage.errors import STORE_ERRORS
from workers.storage.job_folder import attempt_numbers, committed_checkpoints
from workers.tracking.findings import evaluations_of
from workers.tracking.journal import recorded_values
from workers.training.checkpoint import DamagedCheckpointError, listed, read_file, read_manifest
from workers.training.snapshot import average_file
from workers.training.state import new_denoiser, num_parameters
from workers.training.weights import save_weights
from workers.training.weights_header import WeightsHeader

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130
GRID_FILE = "samples.png"


def main() -> int:
    """Run the command line; 0 = written, 2 = impossible (one line says why), 130 = Ctrl-C."""
    arguments = _arguments()
    try:
        job = job_in(arguments.job)
        wanted = CheckpointSource(job_id=job.job_id, images_seen=arguments.at, average=arguments.average)
        if arguments.register and not os.environ.get("MLFLOW_TRACKING_URI"):
            raise UsageError("--register: set MLFLOW_TRACKING_URI to the MLflow whose registry it is")
        choice = chosen(job, wanted, arguments.output)
        if arguments.plan:
            sys.stdout.write(f"{choice.weights}\n")
            return 0
        source = export(job, choice, arguments.output)
        if arguments.register:
            _register(arguments.store or job.store_url, source, arguments.output, arguments.register)
    except (UsageError, DamagedCheckpointError, *STORE_ERRORS) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    sys.stdout.write(f"{arguments.output}: {source.average} at {source.images_seen} images; see its README.md\n")
    return 0


def _register(store_url: str, source: ResolvedCheckpoint, folder: Path, name: str) -> None:
    from mlflow.exceptions import MlflowException  # a second to import, and most do without

    from workers.tracking.registry import register

    try:
        version = register(folder, source, open_store(store_url), store_url, name=name)
    except MlflowException as error:
        raise UsageError(f"--register: MLflow has refused it: {error.message}") from None
    sys.stdout.write(f"registered as version {version} of {name}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A checkpoint, and the file of it whose weights are exported."""

    trained: Trained
    source: ResolvedCheckpoint
    manifest: CheckpointManifest
    file: CheckpointFile
    grid: str | None  # the key of the pictures that training drew at this checkpoint, if there are any
    origin: Mapping[str, Any] | None  # of a fork: `job_id` and `images_seen` of the checkpoint that it goes on from

    @property
    def weights(self) -> str:
        """The key of that file."""
        return self.source.folder + self.file.name


def chosen(job: Job, wanted: CheckpointSource, output: Path) -> Choice:
    """What is to be exported into a folder, which must be empty or not there yet. No weights are read.

    Raises:
        UsageError: there is something in the folder, the job is no training, or has no such checkpoint; the message
            says which it has.
        DamagedCheckpointError: its manifest is not the one that was written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} is there and not empty: choose another --output")
    store = job.open_store()
    try:
        trained = Trained(job.job_id, job.training, Trained.of(store, job.job_id).images)
        source = find_source(store, trained, wanted)
    except SpecError as error:  # its field is one of a document, which nobody has written here
        raise UsageError(error.reason) from None
    manifest = read_manifest(store, source.folder)
    grid = job.keys.sample(source.images_seen)
    return Choice(
        trained=trained,
        source=source,
        manifest=manifest,
        file=listed(manifest, average_file(source.average)),
        grid=grid if grid in store.list(job.keys.samples) else None,
        origin=_origin(store, job.keys),
    )


def export(job: Job, choice: Choice, output: Path) -> ResolvedCheckpoint:
    """Write the folder; return which checkpoint and average it holds.

    Raises:
        DamagedCheckpointError: the weights are not those that were written.
    """
    store, keys = job.open_store(), job.keys
    trained, evaluations = choice.trained, evaluations_of(store, keys)
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
        "README.md": _card(choice, evaluations, _versions_of(store, keys, choice.source.attempt)),
    }.items():
        (output / name).write_text(text + "\n", encoding="utf-8")
    if choice.origin:
        (output / "origin.json").write_text(json.dumps(choice.origin, indent=2) + "\n", encoding="utf-8")
    if choice.grid:
        (output / GRID_FILE).write_bytes(store.get(choice.grid))
    return choice.source


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


def _origin(store: ObjectStore, keys: JobKeys) -> Mapping[str, Any] | None:
    """As it lies there: whoever has a key alone does not know of which attempt the checkpoint is."""
    try:
        origin: Mapping[str, Any] = json.loads(store.get(keys.origin))
    except FileNotFoundError:
        return None
    return origin


def _manifests(store: ObjectStore, keys: JobKeys) -> list[object]:
    return [json.loads(store.get(folder + MANIFEST)) for folder in committed_checkpoints(store, keys)]


def _attempts(store: ObjectStore, keys: JobKeys) -> list[dict[str, Any]]:
    """What each attempt ran on, if it has said so."""
    numbers = attempt_numbers(store, keys)
    return [{"attempt": number, "versions": _versions_of(store, keys, number)} for number in numbers]


def _versions_of(store: ObjectStore, keys: JobKeys, attempt: int) -> dict[str, str]:
    """Out of its progress, of which whoever has a key alone gets no more than this."""
    try:
        versions: dict[str, str] = json.loads(store.get(keys.attempt(attempt).progress)).get("versions", {})
    except FileNotFoundError:
        return {}
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


def _card(choice: Choice, evaluations: Sequence[Evaluation], versions: Mapping[str, str]) -> str:
    spec, images, source, manifest = choice.trained.spec, choice.trained.images, choice.source, choice.manifest
    term = spec.objective.consistency
    how = f"consistency by `{term.estimator}`, weight {term.weight:g}" if term else "no consistency term"
    size = f"{images.resolution}x{images.resolution}, {images.channels} channels"
    here = [each for each in evaluations if each.checkpoint.images_seen == manifest.images_seen]
    ran_on = f" Trained with {', '.join(f'{name} {each}' for name, each in versions.items())}." if versions else ""
    drawn_from = Subject.of(source.job_id, spec, images).averages[0]
    grid = f"\n\n`{GRID_FILE}` was drawn at this checkpoint from the average `{drawn_from}`." if choice.grid else ""
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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.jobs.export", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("job", metavar="JOB", help="<store>/jobs/<id>, the folder of a job in a store")
    parser.add_argument("--at", type=int, metavar="IMAGES", help="of the checkpoint; default: the last")
    parser.add_argument("--average", metavar="NAME", help="ema, ema-0.050 by its width, or network; default: the first")
    parser.add_argument("--register", metavar="NAME", help="also as a version of this model in MLflow's registry")
    parser.add_argument(
        "--store", metavar="URL", help="with --register: where the files of the model go; default: JOB's"
    )
    parser.add_argument("--plan", action="store_true", help="only say the key of the weights; write nothing")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="empty, or not there yet")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
