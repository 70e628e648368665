"""`cdm submit` and `cdm presets`."""

from typing import Annotated

import typer
import yaml

from service.cli import documents, watching
from service.cli.connection import AsJson, Home, Key, Url, connected
from service.cli.errors import CommandFailed
from service.cli.output import say, tell
from workers.contract.presets import PRESETS

Changes = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a field, for example compute.workers=1; the value is YAML and replaces the whole field.",
    ),
]


def submit(
    source: Annotated[str, typer.Argument(metavar="PRESET_OR_FILE", help="See `cdm presets`; or a YAML or JSON file.")],
    changes: Changes = [],  # noqa: B006 (Typer's way)
    name: Annotated[str | None, typer.Option(help="For people; need not be unique.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end, as `cdm watch` does.")] = False,
    url: Url = None,
    key: Key = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Start a training job.

    A file may say `preset: NAME` and only what it changes of that preset. A data set of one's own:
    --set 'dataset={kind: folder, path: photos, resolution: 32}'.
    """
    spec = documents.load(source, changes)
    with connected(url, key, home) as client:
        job = client.jobs.create(spec, name=name)
        if watch:
            say(f"submitted {job.id}", as_json=as_json)
            watching.to_the_end(client, job.id, as_json=as_json)
        else:
            tell(job, f"submitted {job.id}: follow it with `cdm watch {job.id}`", as_json=as_json)


def presets(
    name: Annotated[str | None, typer.Argument(help="Show this one in full, as a file for `cdm submit`.")] = None,
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
