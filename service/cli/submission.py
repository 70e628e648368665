"""`cdm submit` and `cdm presets`."""

from typing import Annotated, Literal

import typer
import yaml

from service.cli import completion, details, documents, values, watching
from service.cli.connection import connected
from service.cli.errors import CommandFailed
from service.cli.options import AsJson, Changes, Home, Key, LabelList, MaxRuntime, Name, Project, Urgency, Url, Watch
from service.cli.output import say, tell
from service.client import Client
from service.client.jobs import JobOptions
from workers.contract.jobs import AnySpec
from workers.contract.presets import PRESETS


def submit(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PRESET_OR_FILE",
            help="See `cdm presets`; or a YAML or JSON file.",
            autocompletion=completion.presets,
        ),
    ],
    changes: Changes = [],  # noqa: B006 (Typer's way)
    name: Name = None,
    label: LabelList = [],  # noqa: B006 (Typer's way)
    priority: Urgency = None,
    max_runtime: MaxRuntime = None,
    evaluate_every: Annotated[
        int | None, typer.Option(metavar="IMAGES", min=1, help="Evaluate a training's checkpoints, so far apart.")
    ] = None,
    evaluate: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUE", help="How they are evaluated, for example num_images=5000; may be given several times."
        ),
    ] = [],  # noqa: B006 (Typer's way)
    control: Annotated[
        Literal["edm"] | None,
        typer.Option(help="Also train without the consistency term, and compare the two by their evaluations."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would come of it, and do nothing.")] = False,
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
    --evaluate 'features={kind: inception, weights: FILE, sha256: DIGEST}'.
    """
    spec = documents.load(source, changes)
    options = values.job_options(name, label, priority, max_runtime)
    if evaluate_every is not None or evaluate:
        every = {} if evaluate_every is None else {"every_images": evaluate_every}
        options["evaluations"] = documents.evaluations(every, evaluate)
    if control:
        if "evaluations" not in options:
            raise CommandFailed("--control: a control is compared by evaluations: give --evaluate-every IMAGES, too")
        options["control"] = control
    with connected(url, key, home, project=project) as client:
        if dry_run:
            plan = client.jobs.plan(spec, **options)
            tell(plan, details.plan(plan), as_json=as_json)
        else:
            hand_in(client, spec, options, watch=watch, as_json=as_json)


def hand_in(client: Client, spec: AnySpec, options: JobOptions, *, watch: bool, as_json: bool) -> None:
    """Submit a job, and say how to follow it, or do."""
    job = client.jobs.create(spec, **options)
    if watch:
        say(f"submitted {job.id}", as_json=as_json)
        watching.to_the_end(client, job.id, as_json=as_json)
    else:
        tell(job, f"submitted {job.id}: follow it with `cdm watch {job.id}`", as_json=as_json)


def presets(
    name: Annotated[
        str | None,
        typer.Argument(help="Show this one in full, as a file for `cdm submit`.", autocompletion=completion.presets),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List job documents to start from."""
    if name is not None and name not in PRESETS:
        raise CommandFailed(f"there is no preset {name!r}: there are {', '.join(PRESETS)}")
    chosen = {name: PRESETS[name]} if name else PRESETS
    specs = {each: spec.model_dump(mode="json") for each, spec in chosen.items()}
    if name:
        tell(specs[name], yaml.safe_dump(specs[name], sort_keys=False).rstrip(), as_json=as_json)
    else:
        rows = "\n".join(f"{each}  {spec.duration_images:,} images" for each, spec in PRESETS.items())
        tell(specs, f"{rows}\n(see one in full with `cdm presets NAME`)", as_json=as_json)
