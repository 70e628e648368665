"""`cdm sample` and `cdm evaluate`."""

from functools import partial
from typing import Annotated

import typer

from service.cli import completion, documents, values
from service.cli.best import chosen
from service.cli.connection import find_training
from service.cli.id_prefixes import whole_digest
from service.cli.options import AsJson, At, Best, Changes, LabelList, MaxRuntime, Name, Urgency, Watch, on_service
from service.cli.submission import submit_and_report
from service.client import Client
from workers.contract.evaluation import FEWEST_IMAGES
from workers.contract.sampling import MOST_PASS_IMAGES

Weights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE_OR_URL",
        help="Instead of a job: what `cdm convert`, `cdm average` or `cdm export` wrote; or https://, s3://. "
        "Without GPUs: --set compute.accelerator=cpu.",
    ),
]
TrainingName = Annotated[
    str | None,
    typer.Argument(
        metavar="JOB",
        help="A job's id, the beginning of one, its name, or `latest`.",
        autocompletion=completion.job_ids,
    ),
]
Average = Annotated[str | None, typer.Option(help="ema, ema-0.050 by width, or network; default: as sample grids.")]


@on_service
def sample(
    client: Client,
    job: TrainingName = None,
    images: Annotated[int, typer.Option("--images", "-n", min=1, help="How many.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of the first image; the others have those that follow.")] = 0,
    at: At = None,
    best: Best = None,
    average: Average = None,
    weights: Weights = None,
    changes: Changes = [],
    name: Name = None,
    label: LabelList = [],
    priority: Urgency = None,
    max_runtime: MaxRuntime = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Draw images from a checkpoint or a file of weights.

    Each is a function of its own seed. Its workers are of the kind that the job trained on, of weights GPUs (--set
    compute.accelerator=cpu). Other fields: --set 'sampler={steps: 40}', --set 'classes=[3]', --set
    archive=npz, --set compute.workers=4.
    """
    fields = {"num_images": images, "first_seed": seed}
    document = {"kind": "sample"} | _source(client, job, at, best, average, weights) | fields
    options = values.job_options(name, label, priority, max_runtime)
    spec = documents.completed(document, changes)
    submit_and_report(client, spec, options, watch=watch, as_json=as_json)


@on_service
def evaluate(
    client: Client,
    job: TrainingName = None,
    images: Annotated[int, typer.Option("--images", "-n", min=FEWEST_IMAGES, help="Drawn for each distance.")] = 5000,
    repeats: Annotated[int, typer.Option(min=1, help="Blocks of so many images, each of new seeds.")] = 1,
    held_out: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Imported images that it did not learn from, for its loss there."),
    ] = None,
    at: At = None,
    best: Best = None,
    average: Average = None,
    weights: Weights = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="Of weights: the imported images that they are measured by.")
    ] = None,
    changes: Changes = [],
    name: Name = None,
    label: LabelList = [],
    priority: Urgency = None,
    max_runtime: MaxRuntime = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Measure a checkpoint or weights.

    Distances to the training images, copies of them, consistency by noise level. EDM's protocol is --images 50000
    --repeats 3, with --set 'features={kind: inception, weights: FILE, sha256: DIGEST}'. Without weights of your own
    nothing is called FID. Weights take --dataset, or published statistics: --set reference=FILE.npz.
    """
    fields = {"num_images": images, "repeats": repeats, "held_out": held_out}
    document: documents.Document = {"kind": "evaluate"} | _source(client, job, at, best, average, weights) | fields
    if dataset:
        document["dataset"] = {"kind": "imported", "digest": dataset}
    elif weights:
        document["drift_images"] = 0  # there are no images to measure losses and gaps at
    options = values.job_options(name, label, priority, max_runtime)
    spec = documents.completed(document, changes, whole=partial(whole_digest, client))
    submit_and_report(client, spec, options, watch=watch, as_json=as_json)


def _source(
    client: Client, job: str | None, at: int | None, best: str | None, average: str | None, weights: str | None
) -> documents.Document:
    """What is drawn from, and where; raises BadParameter unless it is one thing."""
    if weights:
        if job or at or best or average:
            raise typer.BadParameter("--weights takes the place of JOB, --at, --best and --average: leave these out")
        return {"weights": weights}
    if job is None:
        raise typer.BadParameter("say what to draw from: JOB, or --weights FILE")
    return _checkpoint(client, job, at, best, average)


def _checkpoint(client: Client, job: str, at: int | None, best: str | None, average: str | None) -> documents.Document:
    trained, spec = find_training(client, job)
    images_seen, compute = chosen(client, trained, at, best), spec.compute
    return {
        "checkpoint": {"job_id": trained.id, "images_seen": images_seen, "average": average},
        "compute": {"workers": 1, "accelerator": compute.accelerator, "precision": compute.precision},
        "pass_images": min(spec.pass_images, MOST_PASS_IMAGES),
    }
