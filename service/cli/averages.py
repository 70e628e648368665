"""`cdm average`: the tensors are added up by the workers' code, in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import connected, find
from service.cli.errors import CommandFailed
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
    if importlib.util.find_spec("torch") is None:
        raise CommandFailed("this needs PyTorch: install cdm-train[workers]")
    with connected(url, key, home, project=project) as client:
        found = find(client, job)
        checkpoints = client.jobs.checkpoints(found.id)
    if not checkpoints:
        if found.spec.kind != "train":
            raise CommandFailed(f"{found.id} is a job of kind {found.spec.kind}: only trainings have checkpoints")
        first = first_checkpoint(found.spec.cadence)
        raise CommandFailed(f"{found.id} has no checkpoints yet: the first comes {first}")
    folder = checkpoints[-1].uri.partition("/checkpoints/")[0]
    # -P: what lies in the current folder is not meant.
    command = [sys.executable, "-P", "-m", "workers.jobs.reconstruct", folder, "--relative-width", str(relative_width)]
    command += ["--output", str(output), *(() if images is None else ("--images", str(images)))]
    command += ["--force"] if force else []
    environment = dict(os.environ) if url else _stack_environment(home)
    try:
        raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _stack_environment(home: Path | None) -> dict[str, str]:
    """That of the stack's own parts: its S3 server, and no other account of this shell."""
    folder = Folder.at(home)
    run, keys = Run.read(folder.run), Keys.read(folder.keys)
    if run is None or keys is None:
        raise CommandFailed(f"the state folder {folder.root} is incomplete: start its stack with `cdm up`")
    return inherited_environment() | client_environment(run.ports, keys)
