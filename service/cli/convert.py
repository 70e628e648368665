"""`cdm convert`: what is done by the workers' code, in a process of its own, since this one knows no PyTorch."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.cli.errors import CommandFailed


def convert(
    snapshot: Annotated[Path, typer.Argument(metavar="SNAPSHOT.pkl", help="network-snapshot-*.pkl, of EDM or CDM.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.safetensors", help="What is written.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it is there already.")] = False,
) -> None:
    """Convert a published snapshot into weights that a job can start from.

    Nothing in the snapshot is executed. A job uses the result by --set initial_weights=FILE.safetensors, a path or URL
    that the workers can read.
    """
    if importlib.util.find_spec("torch") is None:
        raise CommandFailed("converting takes PyTorch, which is not installed here: pip install 'cdm-train[workers]'")
    # -P: what lies in the current folder is not meant.
    command = [sys.executable, "-P", "-m", "workers.jobs.convert", f"--output={output}"]
    try:
        ended = subprocess.run([*command, *(["--force"] if force else []), "--", str(snapshot)], check=False)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(ended.returncode)
