"""A real Postgres for tests: a private server in a scratch folder, a database for each test."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from tests.support.ray_head import free_ports

INSTALL = "no Postgres: install it (Debian: apt-get install postgresql)"
_USER = "cdm"
_numbers = count(1)
_OPTIONS = {"listen_addresses": "127.0.0.1", "max_connections": "300", "shared_buffers": "32MB"}
# Nothing here outlives the machine, so nothing has to reach the disk; it must outlive the server, though.
_FLEETING = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server that can be stopped and started again."""

    binaries: Path
    scratch: Path
    port: int
    durable: bool = False

    def url(self, name: str) -> str:
        return f"postgresql+asyncpg://{_USER}@127.0.0.1:{self.port}/{name}"

    def new_database(self, *, template: str = "template1") -> str:
        """The URL of a database that nobody else uses, made like another one, which nobody may use meanwhile."""
        name = f"test{next(_numbers)}"
        command = [
            str(self.binaries / "createdb"),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            _USER,
            "-T",
            template,
            name,
        ]
        subprocess.run(command, check=True)
        return self.url(name)

    def start(self) -> None:
        chosen = _OPTIONS if self.durable else _OPTIONS | _FLEETING
        options = " ".join(f"-c {name}={value}" for name, value in chosen.items())
        options = f"-p {self.port} -k {self.scratch} {options}"
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")

    def stop(self) -> None:
        """Without a word to its clients, as if it had been killed."""
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections, and answers nobody: what a dead link looks like."""
        first = psutil.Process(int((self.scratch / "data" / "postmaster.pid").read_text().split()[0]))
        first.suspend()  # before its children, or it would fork others
        processes = [first, *first.children()]
        try:
            for process in processes[1:]:
                process.suspend()
            yield
        finally:
            for process in processes:
                process.resume()

    def _run(self, program: str, *arguments: str) -> None:
        """It refuses to be root's, so that root lends it another user."""
        run: dict[str, Any] = {"user": _lent_user(), "cwd": self.scratch, "stdout": subprocess.DEVNULL}
        subprocess.run([str(self.binaries / program), *arguments], check=True, **run)


def binaries() -> Path | None:
    """Where Postgres is installed; distributions keep `initdb` out of the path."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """Start it and end it. What is committed to a durable one would outlive the machine, too.

    Raises:
        FileNotFoundError: it is not installed.
    """
    folder = binaries()
    if folder is None:
        raise FileNotFoundError(INSTALL)
    scratch = Path(tempfile.mkdtemp(prefix="cdm-postgres-"))
    if user := _lent_user():
        shutil.chown(scratch, user)
    [port] = free_ports(1)
    server = Postgres(folder, scratch, port, durable)
    try:
        server._run("initdb", "-D", "data", "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        server.start()
        yield server
    finally:
        with_pid = scratch / "data" / "postmaster.pid"
        if with_pid.exists():
            server.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def _lent_user() -> str | None:
    return "nobody" if os.geteuid() == 0 else None
