"""`cdm average` and `cdm export`: tensors are read by the workers' code, in a process of its own."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from service.cli.connection import connected, find_training
from service.cli.errors import CommandFailed
from service.cli.modules import require_pytorch, run_module
from service.cli.options import Home, JobName, Key, Project, Url
from service.cli.text import first_checkpoint
from service.embedded.documents import Keys, Run
from service.embedded.folder import Folder
from service.embedded.parts import inherited_environment
from service.embedded.seaweedfs import client_environment


def average(
    job: JobName,
    relative_width: Annotated[float, typer.Option("--relative-width", help="Of the average, above 0, below 0.28.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.safetensors", help="Where to write it.")],
    images: Annotated[int | None, typer.Option("--images", help="Images seen; default: last checkpoint.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it is there already.")] = False,
    url: Url = None,
    key: Key = None,
    project: Project = None,
    home: Home = None,
) -> None:
    """Rebuild a moving average of another width, of a job with power-function averages.

    Reads the checkpoints where they lie: with --url, an S3 store takes its credentials from the AWS_* variables.
    """
    folder = _folder_of(job, url, key, home, project)
    command = ["workers.jobs.reconstruct", folder, "--relative-width", str(relative_width), "--output", str(output)]
    command += () if images is None else ("--images", str(images))
    _run([*command, *(("--force",) if force else ())], url, home)


def export(
    job: JobName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Empty, or not there yet.")],
    at: Annotated[int | None, typer.Option("--at", metavar="IMAGES", help="The checkpoint; default: newest.")] = None,
    average: Annotated[str | None, typer.Option(help="ema, ema-0.050 by width, or network.")] = None,
    register: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also as a version of this model in MLflow's registry.")
    ] = None,
    url: Url = None,
    key: Key = None,
    project: Project = None,
    home: Home = None,
) -> None:
    """Write a model to a folder that stands for itself: weights, how they came about, what was measured.

    Three lines of Python, which are in its README.md, draw from it without a service. Reads the store as `cdm average`.
    """
    command = ["workers.jobs.export", _folder_of(job, url, key, home, project), "--output", str(output)]
    command += () if at is None else ("--images", str(at))
    command += () if register is None else ("--register", register)
    _run([*command, *(() if average is None else ("--average", average))], url, home)


def _folder_of(job: str, url: str | None, key: str | None, home: Path | None, project: str | None) -> str:
    """Where a training with checkpoints lies in the store."""
    require_pytorch("this")
    with connected(url, key, home, project=project) as client:
        found, spec = find_training(client, job)
        checkpoints = client.jobs.checkpoints(found.id)
    if not checkpoints:
        first = first_checkpoint(spec.cadence)
        raise CommandFailed(f"{found.id} has no checkpoints yet: the first comes {first}")
    return checkpoints[-1].uri.partition("/checkpoints/")[0]


def _run(module: list[str], url: str | None, home: Path | None) -> NoReturn:
    raise typer.Exit(run_module(*module, environment=None if url else _stack_environment(home)))


def _stack_environment(home: Path | None) -> dict[str, str]:
    """That of the stack's own parts: its S3 server and MLflow, and no other account of this shell."""
    folder = Folder.at(home)
    run, keys = Run.read(folder.run), Keys.read(folder.keys)
    if run is None or keys is None:
        raise CommandFailed(f"the state folder {folder.root} is incomplete: start its stack with `cdm up`")
    mlflow = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{run.ports.mlflow}"}
    return inherited_environment() | client_environment(run.ports, keys) | mlflow
