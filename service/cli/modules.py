"""Commands that are done by code which this process does not import, in a process of its own."""

import importlib.util
import subprocess
import sys
from collections.abc import Mapping, Sequence

import typer

from service.cli.errors import CommandFailed


def require_pytorch(what: str) -> None:
    """Raises CommandFailed where PyTorch, which `what` takes, is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise CommandFailed(
            f"{what} takes PyTorch, which is not installed here: pip install '.[workers]' in the checkout"
        )


def run_module(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> int:
    """Its exit code; `environment`: None is our own."""
    return _run(module, arguments, environment, stdout=None).returncode


def lines_of_module(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """What it prints. If it fails, it has said why on standard error, and this command ends with its exit code."""
    done = _run(module, arguments, environment, stdout=subprocess.PIPE)
    if done.returncode:
        raise typer.Exit(done.returncode)
    return done.stdout.splitlines()


def _run(
    module: str, arguments: Sequence[str], environment: Mapping[str, str] | None, *, stdout: int | None
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", module, *arguments]  # -P: what lies in the current folder is not meant
    try:
        return subprocess.run(command, env=environment, stdout=stdout, text=True, check=False)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
