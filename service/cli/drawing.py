"""`cdm sample` and `cdm evaluate`."""

from functools import partial
from typing import Annotated

import typer

from service.cli import documents, sending, values
from service.cli.beginnings import whole_digest
from service.cli.connection import find_training
from service.cli.options import AsJson, Changes, JobName, LabelList, MaxRuntime, Name, Urgency, Watch, on_service
from service.cli.submission import hand_in
from service.client import Client
from workers.contract.evaluation import FEWEST_IMAGES
from workers.contract.sampling import MOST_PASS_IMAGES

At = Annotated[int | None, typer.Option("--at", metavar="IMAGES", min=1, help="The checkpoint there; default: newest.")]
Average = Annotated[str | None, typer.Option(help="ema, ema-0.050 by width, or network; default: as sample grids.")]


@on_service
def sample(
    client: Client,
    job: JobName,
    images: Annotated[int, typer.Option("--images", "-n", min=1, help="How many.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of the first image; the others have those that follow.")] = 0,
    at: At = None,
    average: Average = None,
    changes: Changes = [],
    name: Name = None,
    label: LabelList = [],
    priority: Urgency = None,
    max_runtime: MaxRuntime = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Draw images from a checkpoint, each a function of its own seed.

    Its workers are of the kind that the job trained on. Other fields: --set sampler={steps: 40}, --set classes=[3],
    --set archive=npz, --set compute.workers=4.
    """
    fields = {"num_images": images, "first_seed": seed}
    document = _document(client, "sample", job, at, average) | fields
    options = values.job_options(name, label, priority, max_runtime)
    spec = sending.spec_sent(client, documents.completed(document, changes))
    hand_in(client, spec, options, watch=watch, as_json=as_json)


@on_service
def evaluate(
    client: Client,
    job: JobName,
    images: Annotated[int, typer.Option("--images", "-n", min=FEWEST_IMAGES, help="Drawn for each distance.")] = 5000,
    repeats: Annotated[int, typer.Option(min=1, help="Blocks of so many images, each of new seeds.")] = 1,
    held_out: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Imported images that it did not learn from, for its loss there."),
    ] = None,
    at: At = None,
    average: Average = None,
    changes: Changes = [],
    name: Name = None,
    label: LabelList = [],
    priority: Urgency = None,
    max_runtime: MaxRuntime = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Measure a checkpoint: distances to the training images, copies of them, consistency by noise level.

    EDM's protocol is --images 50000 --repeats 3, with
    --set 'features={kind: inception, weights: FILE, sha256: DIGEST}'. Without weights of your own nothing is called
    FID.
    """
    fields = {"num_images": images, "repeats": repeats, "held_out": held_out}
    document = _document(client, "evaluate", job, at, average) | fields
    options = values.job_options(name, label, priority, max_runtime)
    spec = sending.spec_sent(client, documents.completed(document, changes, whole=partial(whole_digest, client)))
    hand_in(client, spec, options, watch=watch, as_json=as_json)


def _document(client: Client, kind: str, job: str, at: int | None, average: str | None) -> documents.Document:
    """What is drawn from which checkpoint, and where."""
    trained, spec = find_training(client, job)
    compute = spec.compute
    return {
        "kind": kind,
        "checkpoint": {"job_id": trained.id, "images_seen": at, "average": average},
        "compute": {"workers": 1, "accelerator": compute.accelerator, "precision": compute.precision},
        "pass_images": min(spec.pass_images, MOST_PASS_IMAGES),
    }
