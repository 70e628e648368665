"""Code that a command loads when it is needed: the workers' tools here, the service's in a process of its own."""

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from service.cli.errors import CommandFailed, CommandMisused


def require_pytorch(what: str) -> None:
    """Raises CommandFailed where PyTorch, which `what` takes, is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise CommandFailed(
            f"{what} takes PyTorch, which is not installed here: pip install '.[workers]' in the checkout"
        )


@contextmanager
def tool(name: str) -> Iterator[Any]:
    """A module of `workers.tools`; what it refuses inside is CommandMisused. It loads PyTorch, which takes seconds."""
    module = importlib.import_module(f"workers.tools.{name}")
    refusal: type[Exception] = importlib.import_module("workers.jobs.failures").UsageError
    try:
        yield module
    except refusal as error:
        raise CommandMisused(str(error)) from None


def run_module(module: str, *arguments: str, environment: Mapping[str, str]) -> int:
    """Run it in a process with this environment; its exit code."""
    command = [sys.executable, "-P", "-m", module, *arguments]  # -P: what lies in the current folder is not meant
    try:
        return subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
