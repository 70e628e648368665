"""`cdm average` and `cdm export`: what they take is fetched, or lies in a store, and tools of the workers read it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import completion
from service.cli.connection import connected, find_training, is_stack, state_of
from service.cli.copies import Copy, InStore, copied, is_folder_of_job
from service.cli.errors import CommandFailed, CommandMisused
from service.cli.modules import require_pytorch, tool
from service.cli.options import AsJson, At, Best, Home, Key, Project, Url
from service.cli.output import remark, tell
from service.cli.text import first_checkpoint
from service.client import Client
from service.embedded.parts import inherited_environment
from service.embedded.seaweedfs import client_environment
from service.jobs.result_views import Checkpoint
from service.jobs.views import Job

Training = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="A job's id, the beginning of one, its name, or `latest`; without a service <store>/jobs/<id>, its folder "
        "in a store (a path, or s3://... with the AWS_* variables).",
        autocompletion=completion.job_ids,
    ),
]


def average(
    job: Training,
    relative_width: Annotated[float, typer.Option("--relative-width", help="Of the average, above 0, below 0.28.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.safetensors", help="Where to write it.")],
    at: Annotated[
        int | None,
        typer.Option("--at", metavar="IMAGES", help="Images seen, best at a checkpoint; default: those of the newest."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it is there already.")] = False,
    url: Url = None,
    key: Key = None,
    project: Project = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild a moving average of another width.

    Takes a job with power-function averages. Fetches those of its stored averages that count; until it is done they
    take room in the temporary folder ($TMPDIR).
    """
    with _opened(job, "average", url=url, key=key, project=project, home=home) as (training, averaging):
        plan = averaging.planned(training.folder, output, relative_width=relative_width, images_seen=at, force=force)
        training.fetch_files(plan.keys)
        done = averaging.write(plan, output)
    tell({"path": str(output.absolute())}, f"{output}: {done}", as_json=as_json)
    if plan.warning:
        remark(f"warning: {plan.warning}")


def export(
    job: Training,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Empty, or not there yet.")],
    at: At = None,
    best: Best = None,
    average: Annotated[
        str | None, typer.Option(help="ema, ema-0.050 by width, or network; default: as sample grids.")
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Also as a version of this model in MLflow's registry; with --url or a folder, MLFLOW_TRACKING_URI "
            "and the AWS_* variables say where that is, and let it write to the job's store.",
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    project: Project = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write a model to a folder that stands for itself.

    It has the weights, how they came about, and what was measured. Three lines of Python, which are in its README.md,
    draw from it without a service.
    """
    of_this_stack = is_stack(url, home) and not is_folder_of_job(job)
    if register and not of_this_stack and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise CommandMisused("--register: set MLFLOW_TRACKING_URI to the MLflow whose registry it is")
    with _opened(job, "export", url=url, key=key, project=project, home=home) as (training, exporting):
        images_seen = training.images_seen(at, best)
        choice = exporting.chosen(training.folder, output, images_seen=images_seen, average=average)
        training.fetch_files([choice.weights])
        training.fetch_findings(choice.source.images_seen)
        done = [f"{output}: {exporting.export(choice, output)}"]
        if register:
            with _environment_of_stack(home) if of_this_stack else nullcontext():
                done.append(exporting.register(choice, output, register, store_url=training.store_url))
    document = {"path": str(output.absolute()), "registered": register}
    tell(document, "\n".join(done), as_json=as_json)


@contextmanager
def _opened(
    job: str, tool_name: str, *, url: str | None, key: str | None, project: str | None, home: Path | None
) -> Iterator[tuple[Copy | InStore, Any]]:
    """A training, and the tool that is to read it."""
    require_pytorch("this")
    if is_folder_of_job(job):
        with tool(tool_name) as module:
            yield InStore(job), module
        return
    with connected(url, key, home, project=project) as client:
        found, checkpoints = _trained(client, job)
        with tool(tool_name) as module, copied(client, found, checkpoints) as copy:
            yield copy, module


def _trained(client: Client, job: str) -> tuple[Job, Sequence[Checkpoint]]:
    """A training and its checkpoints, of which there is one at least."""
    found, spec = find_training(client, job)
    checkpoints = client.jobs.checkpoints(found.id)
    if not checkpoints:
        raise CommandFailed(f"{found.id} has no checkpoints yet: the first comes {first_checkpoint(spec.cadence)}")
    return found, checkpoints


@contextmanager
def _environment_of_stack(home: Path | None) -> Iterator[None]:
    """Inside, this process knows the stack's S3 server and MLflow, and no other account of this shell."""
    _, run, keys = state_of(home)
    mlflow = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{run.ports.mlflow}"}
    stack = inherited_environment() | client_environment(run.ports, keys) | mlflow
    before = dict(os.environ)
    _replace_environment(stack)
    try:
        yield
    finally:
        _replace_environment(before)


def _replace_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)
