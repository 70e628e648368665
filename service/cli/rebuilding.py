"""`cdm admin`: done by the service's code, in a process of its own; to a stopped stack, beside its S3 server alone."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from service.cli.connection import state_of
from service.cli.errors import CommandFailed
from service.cli.modules import run_module
from service.cli.options import Home
from service.embedded.documents import Keys, Ports
from service.embedded.folder import Folder

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0

admin = typer.Typer(help="Save and restore what this machine's stack knows.", rich_markup_mode=None)

Copy = Annotated[Path, typer.Argument(metavar="FILE", help="A copy of the database.")]


@admin.command()
def backup(file: Copy, home: Home = None) -> None:
    """Copy the database of this machine's stack.

    The stack may run meanwhile. The copy holds keys, webhooks and the audit, which nothing else does. Copy the buckets
    after it, or stop the stack and copy its whole folder instead.
    """
    folder, run, keys = state_of(home)
    raise typer.Exit(_administer(folder, run.ports, keys, "backup", str(file.absolute())))


@admin.command()
def restore(file: Copy, home: Home = None) -> None:
    """Put a copy of the database back into a stopped stack.

    What has happened since is brought back, too. Stop the stack first, then move its database away (api/service.db*).
    """
    _beside_its_store(home, "restore", str(file.absolute()))


@admin.command()
def rebuild(home: Home = None) -> None:
    """Restore lost jobs of the stack from its object store.

    For when its database is lost or damaged: stop the stack, move the database away (api/service.db*), and run this.
    Jobs that the database knows stay as they are, unless the object store has heard of them since.
    """
    _beside_its_store(home, "rebuild")


def _beside_its_store(home: Path | None, *arguments: str) -> NoReturn:
    from service.embedded.parts import check_installed
    from service.embedded.ports import reserved

    folder, run, keys = state_of(home)
    check_installed()
    with (
        folder.exclusive(),
        reserved({}, last=run.ports) as ports,
        object_store(folder, ports, keys),
    ):
        code = _administer(folder, ports, keys, *arguments)
    raise typer.Exit(code)


def _administer(folder: Folder, ports: Ports, keys: Keys, *arguments: str) -> int:
    from service.embedded import api
    from service.embedded.parts import inherited_environment

    environment = inherited_environment() | dict(api.part(folder, ports, keys).environment)
    return run_module("service.admin", *arguments, environment=environment)


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
