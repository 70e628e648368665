"""`cdm submit` and `cdm presets`."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Annotated, Literal

import typer

from service.cli import completion, details, documents, inheritance, sending, values, watching
from service.cli.commented import commented
from service.cli.connection import connected, find
from service.cli.errors import CommandFailed, CommandMisused
from service.cli.hints import command
from service.cli.id_prefixes import whole_digest
from service.cli.options import (
    AsJson,
    Changes,
    DryRun,
    EvaluateEvery,
    EvaluateList,
    Home,
    Key,
    LabelList,
    MaxRuntime,
    Name,
    NoEvaluations,
    Project,
    Urgency,
    Url,
    Watch,
)
from service.cli.output import remark, say, tell
from service.cli.text import table
from service.client import Client, ClientError
from service.client.documents import as_json
from service.client.jobs import JobOptions
from service.jobs.planning_views import Plan
from service.jobs.views import Fork, Job
from workers.contract.jobs import AnySpec
from workers.contract.presets import PRESETS
from workers.contract.spec import TrainSpec


def submit(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="PRESET_OR_FILE",
            help="See `cdm presets`; or a YAML or JSON file.",
            autocompletion=completion.presets,
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="JOB",
            help="Instead: the document of this job, however it ended, with its labels and evaluations.",
            autocompletion=completion.job_ids,
        ),
    ] = None,
    changes: Changes = [],
    name: Name = None,
    label: LabelList = [],
    priority: Urgency = None,
    max_runtime: MaxRuntime = None,
    evaluate_every: EvaluateEvery = None,
    evaluate: EvaluateList = [],
    no_evaluations: NoEvaluations = False,
    control: Annotated[
        Literal["edm"] | None,
        typer.Option(help="Also train without the consistency term, and compare the two by their evaluations."),
    ] = None,
    dry_run: DryRun = False,
    watch: Watch = False,
    url: Url = None,
    key: Key = None,
    project: Project = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Start a job: a training, or whatever the file says.

    A file may say `preset: NAME` and only what it changes of that preset. A data set of one's own:
    --set 'dataset={kind: folder, path: photos, resolution: 32}'. Evaluations may measure FID:
    --evaluate 'features={kind: inception, weights: FILE, sha256: DIGEST}'. A job again, with changes:
    --like JOB --set compute.microbatch_images=64; with it, --label KEY- leaves a label out.
    """
    with ExitStack() as opened:
        # Not before it is needed: mistakes are said without a service.
        client = cache(lambda: opened.enter_context(connected(url, key, home, project=project)))
        before = None if like is None else find(client(), like)

        def whole(digest: str) -> str:
            return whole_digest(client(), digest)

        spec = documents.completed(_document(source, before), changes, whole=whole)
        options = values.job_options(name, () if before else label, priority, max_runtime)
        inherited = before.evaluations if before else None
        options["evaluations"] = inheritance.evaluations(
            inherited, evaluate_every, evaluate, without=no_evaluations, whole=whole
        )
        if control:
            _add_control(options, control)
        if before:
            _take_over(before, spec, options, label, as_json=as_json)
        if dry_run:
            plan = client().jobs.plan(spec, **options)
            tell(plan, details.plan(plan), as_json=as_json)
        else:
            submit_and_report(client(), spec, options, watch=watch, as_json=as_json)


def _add_control(options: JobOptions, control: Literal["edm"]) -> None:
    if not options.get("evaluations"):
        raise CommandMisused("--control: a control is compared by evaluations: give --evaluate-every IMAGES, too")
    options["control"] = control


def _take_over(before: Job, spec: AnySpec, options: JobOptions, label: Sequence[str], *, as_json: bool) -> None:
    """What an earlier job has beside its document; says what is left behind."""
    options["labels"] = inheritance.labels(before, label)
    inheritance.require_fitting(spec, options, before=before)
    for words in inheritance.left_behind(before, options):
        say(words, as_json=as_json)


def _document(source: str | None, before: Job | None) -> documents.Document:
    if source is not None and before:
        raise CommandMisused(f"--like: the document is that of {before.id}; leave out {source}, or --like")
    if before:
        return as_json(before.spec)
    if source is None:
        raise CommandMisused("there is nothing to submit: give a preset or a file, or --like JOB")
    return documents.read(source)


def submit_and_report(
    client: Client, spec: AnySpec, options: JobOptions, *, sends: bool = True, watch: bool, as_json: bool
) -> None:
    """Submit a job, and say how to follow it, or do."""
    job = create(client, spec, options, sends=sends)
    control = f", and its control {job.control_job_id}" if job.control_job_id else ""
    report(client, job, f"submitted {job.id}{control}", answer=job, watch=watch, as_json=as_json)


def report(client: Client, job: Job, done: str, *details: str, answer: Job | Fork, watch: bool, as_json: bool) -> None:
    """Say that a job was made, and how to follow it, or do."""
    if watch:
        say("\n".join((done, *details)), as_json=as_json)
        watching.to_the_end(client, job.id, as_json=as_json)
    else:
        follow = f"{done}: follow it with {command(f'watch {job.id}')}"
        tell(answer, "\n".join((follow, *details)), as_json=as_json)


def create(client: Client, spec: AnySpec, options: JobOptions, *, sends: bool = True) -> Job:
    """Submit a job, once it is said what whoever does may want to know first, and files that it names are sent.

    What the service would refuse is refused before any is sent.
    """
    alone: JobOptions = {**options, "control": None}
    warn(client.jobs.plan(spec, **alone))
    if options.get("control"):  # which may be refused, and is nothing to warn of whoever asks for it
        client.jobs.plan(spec, **options)
    if sends:
        document, options = sending.request_sent(client, as_json(spec), options)
        spec = documents.completed(document, ())
    with made_once():
        return client.jobs.create(spec, **options)


@contextmanager
def made_once() -> Iterator[None]:
    """Who is told to try again, of a request that may have been carried out, may make a second job."""
    try:
        yield
    except ClientError as error:
        if not error.may_be_done:
            raise
        raise CommandFailed(f"{error}; the job may be there already: {command('jobs --mine')} tells") from None


def warn(plan: Plan) -> None:
    for warning in plan.warnings:
        remark(f"warning: {warning}")


def presets(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Show this one in full, as a file for `cdm submit` that says what its fields mean.",
            autocompletion=completion.presets,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List job documents to start from."""
    if name is not None and name not in PRESETS:
        raise CommandMisused(f"there is no preset {name!r}: there are {', '.join(PRESETS)}")
    chosen = {name: PRESETS[name]} if name else PRESETS
    specs = {each: spec.model_dump(mode="json") for each, spec in chosen.items()}
    if name:
        tell(specs[name], commented(PRESETS[name]), as_json=as_json)
    else:
        head = ("PRESET", "IMAGES", "WORKERS", "LEARNS FROM")
        rows = ((each, f"{spec.duration_images:,}", *_needs(spec)) for each, spec in PRESETS.items())
        tell(specs, f"{table([head, *rows])}\n(see one in full with `cdm presets NAME`)", as_json=as_json)


def _needs(spec: TrainSpec) -> tuple[str, str]:
    """Its workers, and where its images are; EDM names a ZIP by their size."""
    dataset, workers = spec.dataset.model_dump(), f"{spec.compute.workers} {spec.compute.accelerator.upper()}s"
    resolution = f" at {dataset['resolution']} x {dataset['resolution']}" if dataset.get("resolution") else ""
    return workers, f"{dataset.get('path') or dataset['name']}{resolution}"
