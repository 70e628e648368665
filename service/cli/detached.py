"""The stack in the background."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

import typer

from service.cli.errors import CommandFailed
from service.embedded.folder import Folder

if TYPE_CHECKING:
    from service.embedded.documents import Run


def start_detached(folder: Folder, asked: Mapping[str, int], *, as_json: bool) -> None:
    """Run `cdm up` in the background and pass on what it says; returns when all is ready.

    Raises:
        CommandFailed: with its last words, if it ends instead.
    """
    from service.embedded import stack

    folder.prepare()
    log = folder.log("up")
    with log.open("ab") as output, log.open(errors="replace") as said:
        said.seek(0, os.SEEK_END)
        child = subprocess.Popen(
            _command(folder, asked, as_json=as_json),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C here is not one there
        )
        error = None
        try:
            while child.poll() is None and not _is_ready(stack.running(folder), child.pid):
                error = _pass_on(said) or error
                time.sleep(0.1)
            error = _pass_on(said) or error
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
            raise typer.Exit(130) from None
    if child.returncode is not None:
        raise CommandFailed(error or f"`cdm up` ended with exit code {child.returncode}: see {log}")


def _command(folder: Folder, asked: Mapping[str, int], *, as_json: bool) -> list[str]:
    ports = (f"--{name.removesuffix('_dashboard').replace('_', '-')}-port={port}" for name, port in asked.items())
    # -P: what lies in the current folder is not meant.
    return [
        *(sys.executable, "-P", "-m", "service.cli", "up", *folder.options),
        *ports,
        *(["--json"] if as_json else []),
    ]


def _is_ready(run: "Run | None", pid: int) -> bool:
    return run is not None and run.pid == pid and run.ready


def _pass_on(said: TextIO) -> str | None:
    """Print what has been said since the last time, but for an error, which is returned."""
    error = None
    for line in said:
        if line.startswith("error: "):
            error = line.removeprefix("error: ").strip()
        else:
            print(line, end="", flush=True)  # noqa: T201
    return error
