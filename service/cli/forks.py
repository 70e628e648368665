"""`cdm fork`."""

from functools import partial

from service.cli import details, documents, inheritance, sending, values
from service.cli.best import require_one
from service.cli.connection import find
from service.cli.errors import CommandFailed
from service.cli.id_prefixes import whole_digest
from service.cli.options import (
    AsJson,
    At,
    Best,
    Changes,
    DryRun,
    EvaluateEvery,
    EvaluateList,
    JobName,
    LabelList,
    MaxRuntime,
    Name,
    NoEvaluations,
    Urgency,
    Watch,
    on_service,
)
from service.cli.output import tell
from service.cli.submission import made_once, report, warn
from service.client import Client
from service.client.jobs import ForkOptions
from service.jobs.views import Fork, Job


@on_service
def fork(
    client: Client,
    job: JobName,
    at: At = None,
    best: Best = None,
    changes: Changes = [],
    name: Name = None,
    label: LabelList = [],
    priority: Urgency = None,
    max_runtime: MaxRuntime = None,
    evaluate_every: EvaluateEvery = None,
    evaluate: EvaluateList = [],
    no_evaluations: NoEvaluations = False,
    dry_run: DryRun = False,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Start a job from a checkpoint of another, with changes.

    Without --at or --best, from the newest. The network and its averages stay as they are. It has the labels of the
    other and is evaluated as that is, unless told otherwise; --label KEY- leaves a label out. Of a job without a
    checkpoint, `cdm submit --like` makes another.
    """
    require_one(at, best)
    parent = find(client, job, kind="train")
    if at is not None:
        _require_checkpoint(client, parent, at)
    options: ForkOptions = values.job_options(name, (), priority, max_runtime)
    options["labels"] = inheritance.labels(parent, label)
    evaluations = inheritance.evaluations(
        parent.evaluations, evaluate_every, evaluate, without=no_evaluations, whole=partial(whole_digest, client)
    )
    if evaluations != parent.evaluations:
        options["evaluations"] = evaluations
    overrides = documents.overrides(parent.spec, changes)
    if dry_run:
        plan = client.jobs.plan_fork(parent.id, images_seen=at, best=best, overrides=overrides, **options)
        tell(plan, details.plan(plan), as_json=as_json)
        return
    forked = _forked(client, parent, at, best, overrides, options)
    where = f" at {forked.job.parent.images_seen:,} images" if forked.job.parent else ""
    changed = f"with these changes:\n{details.changes(forked.changes)}"
    done = f"forked {forked.job.id} from {parent.id}{where}"
    report(client, forked.job, done, changed, answer=forked, watch=watch, as_json=as_json)


def _require_checkpoint(client: Client, parent: Job, at: int) -> None:
    """The service would take one before it instead; of a job without any it says what to do."""
    there = [each.images_seen for each in client.jobs.checkpoints(parent.id)]
    if there and at not in there:
        raise CommandFailed(f"{parent.id} has no such checkpoint: it has them at {', '.join(map(str, there[-8:]))}")


def _forked(
    client: Client, parent: Job, at: int | None, best: str | None, overrides: documents.Document, options: ForkOptions
) -> Fork:
    """Once it is said what whoever asks for it may want to know first, and the files that it names are sent."""
    warn(client.jobs.plan_fork(parent.id, images_seen=at, best=best, overrides=overrides, **options))
    overrides, options = sending.request_sent(client, overrides, options)
    with made_once():
        return client.jobs.fork(parent.id, images_seen=at, best=best, overrides=overrides, **options)
