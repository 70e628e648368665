"""`cdm fork`."""

from typing import Annotated

import typer

from service.cli import details, documents, inheritance, sending, values
from service.cli.connection import find
from service.cli.errors import CommandFailed
from service.cli.options import (
    AsJson,
    Changes,
    EvaluateEvery,
    EvaluateList,
    JobName,
    LabelList,
    MaxRuntime,
    Name,
    NoEvaluations,
    Urgency,
    on_service,
)
from service.cli.output import tell
from service.client import Client
from service.client.jobs import ForkOptions


@on_service
def fork(
    client: Client,
    job: JobName,
    at: Annotated[int | None, typer.Option(metavar="IMAGES", min=1, help="The newest checkpoint up to here.")] = None,
    best: Annotated[str | None, typer.Option(metavar="CURVE", help="The checkpoint where this is lowest.")] = None,
    changes: Changes = [],
    name: Name = None,
    label: LabelList = [],
    priority: Urgency = None,
    max_runtime: MaxRuntime = None,
    evaluate_every: EvaluateEvery = None,
    evaluate: EvaluateList = [],
    no_evaluations: NoEvaluations = False,
    as_json: AsJson = False,
) -> None:
    """Start a job from a checkpoint of another, with changes.

    Without --at or --best, from the newest. The network and its averages stay as they are. It is evaluated as the other
    is, unless told otherwise. Of a job without a checkpoint, `cdm submit --like` makes another.
    """
    if at is not None and best is not None:
        raise CommandFailed("--at and --best name two checkpoints: give one of them")
    parent = find(client, job, kind="train")
    options: ForkOptions = values.job_options(name, label, priority, max_runtime)
    evaluations = inheritance.evaluations(parent.evaluations, evaluate_every, evaluate, without=no_evaluations)
    if evaluations != parent.evaluations:
        options["evaluations"] = evaluations and sending.evaluations_sent(client, evaluations)
    overrides = sending.document_sent(client, documents.overrides(parent.spec, changes))
    forked = client.jobs.fork(parent.id, images_seen=at, best=best, overrides=overrides, **options)
    new = forked.job
    where = f" at {new.parent.images_seen:,} images" if new.parent else ""
    words = f"forked {new.id} from {parent.id}{where}, with these changes:\n{details.changes(forked.changes)}"
    tell(forked, words, as_json=as_json)
