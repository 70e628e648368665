"""The state folder: everything the stack keeps between runs lies in it and nowhere else."""

import fcntl
import hashlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.embedded.documents import Connection
from service.embedded.errors import AlreadyRunning, FolderUnusable

MIN_FREE_BYTES = 2 << 30

# Ray puts unix sockets into its folder, whose names the kernel limits to 107 bytes. The longest so far is
# /session_2026-11-23_15-28-41_123456_4194304/sockets/dash_MetricsHead (the dashboard hides that it failed on it).
_RAY_SOCKET_BYTES, _SOCKET_LIMIT = 80, 107


def default_home() -> Path:
    """`$CDM_HOME`, else `~/.cdm`."""
    return Path(os.environ.get("CDM_HOME") or "~/.cdm").expanduser()


@dataclass(frozen=True, slots=True)
class Folder:
    """Names everything in a state folder. `root` must be absolute."""

    root: Path

    @classmethod
    def at(cls, home: Path | None) -> "Folder":
        return cls((home or default_home()).expanduser().absolute())

    @property
    def options(self) -> tuple[str, ...]:
        """What `cdm` has to be told for it to mean this folder: nothing, if it is the one that it takes anyway."""
        return () if self == Folder.at(None) else ("--home", str(self.root))

    @property
    def connection(self) -> Path:
        """Where the API is and the key to it; what `cdm` reads."""
        return self.root / "connection.json"

    @property
    def keys(self) -> Path:
        return self.root / "keys.json"

    @property
    def run(self) -> Path:
        """Who supervises the stack, and the ports it has, or had last."""
        return self.root / "run.json"

    @property
    def s3(self) -> Path:
        return self.root / "s3"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    @property
    def api(self) -> Path:
        return self.root / "api"

    @property
    def ray(self) -> Path:
        """Ray's own; it opens it to everybody, so it lies in one that is not. Elsewhere if our path is too long."""
        path = self.root / "ray"
        if len(os.fsencode(path)) + _RAY_SOCKET_BYTES <= _SOCKET_LIMIT:
            return path
        return Path(tempfile.gettempdir()) / f"cdm-{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]}" / "ray"

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def prepare(self) -> None:
        """Make the folder, for its owner only, and make sure that there is room in it.

        Raises:
            FolderUnusable: if it cannot be written or is nearly full.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in (self.s3, self.mlflow, self.api, self.log("").parent, self.ray.parent, self.ray):
                path.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
            if self.ray.parent.stat().st_uid != os.geteuid():
                raise FolderUnusable(
                    f"{self.ray.parent} belongs to another user: choose a shorter state folder with --home"
                )
        except OSError as error:
            reason = error.strerror or error
            raise FolderUnusable(
                f"cannot write to the state folder {self.root} ({reason}): choose another with --home"
            ) from None
        free = shutil.disk_usage(self.root).free
        if free < MIN_FREE_BYTES:
            raise FolderUnusable(
                f"only {free / 2**30:.1f} GiB are free in the state folder {self.root}, the stack needs "
                f"{MIN_FREE_BYTES / 2**30:.0f}: free some space, or choose another folder with --home"
            )

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder; the operating system gives it back, however this process ends.

        Raises:
            AlreadyRunning: if another process holds it.
        """
        with (self.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                connection = Connection.read(self.connection)
                where = f" at {connection.url}" if connection else ""
                down = shlex.join(("cdm", "down", *self.options))
                raise AlreadyRunning(
                    f"a stack already runs from {self.root}{where}: use it, stop it with `{down}`, "
                    "or start another with --home"
                ) from None
            yield
