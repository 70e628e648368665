"""`cdm average` and `cdm export`: what they take is fetched here, and read by the workers' code, in other processes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from service.cli.best import chosen
from service.cli.connection import connected, find_training, state_of
from service.cli.copies import copied
from service.cli.errors import CommandFailed
from service.cli.modules import lines_of_module, require_pytorch, run_module
from service.cli.options import At, Best, Home, JobName, Key, Project, Url, on_service
from service.cli.text import first_checkpoint
from service.client import Client
from service.embedded.parts import inherited_environment
from service.embedded.seaweedfs import client_environment
from service.jobs.result_views import Checkpoint
from service.jobs.views import Job

_AVERAGE, _EXPORT = "workers.jobs.reconstruct", "workers.jobs.export"


@on_service
def average(
    client: Client,
    job: JobName,
    relative_width: Annotated[float, typer.Option("--relative-width", help="Of the average, above 0, below 0.28.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.safetensors", help="Where to write it.")],
    at: Annotated[
        int | None,
        typer.Option("--at", metavar="IMAGES", help="Images seen, best at a checkpoint; default: those of the newest."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it is there already.")] = False,
) -> None:
    """Rebuild a moving average of another width.

    Takes a job with power-function averages. Fetches those of its stored averages that count; until it is done they
    take room in the temporary folder ($TMPDIR).
    """
    options = ["--relative-width", str(relative_width), "--output", str(output)]
    options += () if at is None else ("--at", str(at))
    options += ("--force",) if force else ()
    found, checkpoints = _trained(client, job)
    with copied(client, found, checkpoints) as copy:
        copy.fetch_files(lines_of_module(_AVERAGE, copy.folder, *options, "--plan"))
        raise typer.Exit(run_module(_AVERAGE, copy.folder, *options))


def export(
    job: JobName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Empty, or not there yet.")],
    at: At = None,
    best: Best = None,
    average: Annotated[str | None, typer.Option(help="ema, ema-0.050 by width, or network.")] = None,
    register: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Also as a version of this model in MLflow's registry; with --url, MLFLOW_TRACKING_URI and the AWS_* "
            "variables say where that is, and let it write to the service's store.",
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    project: Project = None,
    home: Home = None,
) -> None:
    """Write a model to a folder that stands for itself.

    It has the weights, how they came about, and what was measured. Three lines of Python, which are in its README.md,
    draw from it without a service.
    """
    options = ["--output", str(output)]
    options += () if average is None else ("--average", average)
    environment = _stack_environment(home) if register and not url else None
    with connected(url, key, home, project=project) as client:
        found, checkpoints = _trained(client, job)
        images_seen = chosen(client, found, at, best)
        options += () if images_seen is None else ("--at", str(images_seen))
        if register:
            store, _, _ = checkpoints[-1].uri.partition(f"/jobs/{found.id}/")
            options += ("--register", register, "--store", store)
        with copied(client, found, checkpoints) as copy:
            (weights,) = lines_of_module(_EXPORT, copy.folder, *options, "--plan", environment=environment)
            copy.fetch_files([weights])
            copy.fetch_findings(copy.images_seen(weights))
            raise typer.Exit(run_module(_EXPORT, copy.folder, *options, environment=environment))


def _trained(client: Client, job: str) -> tuple[Job, Sequence[Checkpoint]]:
    """A training and its checkpoints, of which there is one at least."""
    require_pytorch("this")
    found, spec = find_training(client, job)
    checkpoints = client.jobs.checkpoints(found.id)
    if not checkpoints:
        raise CommandFailed(f"{found.id} has no checkpoints yet: the first comes {first_checkpoint(spec.cadence)}")
    return found, checkpoints


def _stack_environment(home: Path | None) -> dict[str, str]:
    """That of the stack's own parts: its S3 server and MLflow, and no other account of this shell."""
    _, run, keys = state_of(home)
    mlflow = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{run.ports.mlflow}"}
    return inherited_environment() | client_environment(run.ports, keys) | mlflow
