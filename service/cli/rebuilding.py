"""`cdm admin rebuild`: done by the service's code, in a process of its own, beside the stack's S3 server alone."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from service.cli.errors import CommandFailed
from service.cli.options import Home
from service.embedded.documents import Keys, Ports, Run
from service.embedded.folder import Folder

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0

admin = typer.Typer(help="What is done to a stopped service.", rich_markup_mode=None)


@admin.callback()
def _several() -> None:
    """So that `rebuild` is named although it is the only one."""


@admin.command()
def rebuild(home: Home = None) -> None:
    """Restore lost jobs of this machine's stack from its object store.

    For when its database is lost or damaged: move that away (api/service.db*), stop the stack, and run this.
    Jobs that the database knows stay as they are.
    """
    from service.embedded import api
    from service.embedded.parts import check_installed, inherited_environment
    from service.embedded.ports import choose

    folder = Folder.at(home)
    run, keys = Run.read(folder.run), Keys.read(folder.keys)
    if run is None or keys is None:
        raise CommandFailed(f"there is no stack in {folder.root}: name its folder with --home")
    check_installed()
    with folder.exclusive():
        ports = choose({}, last=run.ports)
        environment = inherited_environment() | dict(api.part(folder, ports, keys).environment)
        with object_store(folder, ports, keys):
            # -P: what lies in the current folder is not meant.
            command = [sys.executable, "-P", "-m", "service.admin", "rebuild"]
            code = subprocess.run(command, env=environment, check=False).returncode
    raise typer.Exit(code)


@contextmanager
def object_store(folder: Folder, ports: Ports, keys: Keys) -> Iterator[None]:
    """Run the stack's S3 server, and nothing else of it."""
    from service.embedded import processes, seaweedfs
    from service.embedded.parts import inherited_environment
    from service.embedded.supervision import answers

    seaweedfs.write_identities(folder, keys)
    part, log = seaweedfs.part(folder, ports), folder.log("s3")
    child = processes.start(part, environment=inherited_environment(), mark=keys.mark, log=log, folder=folder.root)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not all(map(answers, part.probes)):
            if child.poll() is not None or time.monotonic() > deadline:
                raise CommandFailed(f"{part.title} does not start: see {log}")
            time.sleep(0.1)
        yield
    finally:
        processes.stop([child], mark=keys.mark, grace_seconds=_STOP_SECONDS)
