"""A disk that is soon full, and workers that need one at once: they keep next to nothing for MLflow in memory."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

# Python runs this at its start wherever it is found.
_FORGETFUL = """
from workers.tracking.background import Background
begin = Background.__init__

def begin_forgetful(self, name, deliver, waiting, **options):
    if name == "mlflow":
        waiting._free_memory = 5_000
    begin(self, name, deliver, waiting, **options)

Background.__init__ = begin_forgetful
"""


@dataclass(frozen=True, slots=True)
class SmallDisk:
    folder: Path

    def fill(self) -> None:
        """To the last byte."""
        with suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(1 << 12)):
                pass


@contextmanager
def small_disk(folder: Path, *, mebibytes: int) -> Iterator[SmallDisk]:
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("no disk can be mounted here: it takes root, and a container may not")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["/bin/umount", "--lazy", folder], check=True)


def forgetful_python(folder: Path, python_path: str) -> dict[str, str]:
    """The environment of workers whose news for MLflow wait on disk almost at once; those for the store in memory."""
    (folder / "sitecustomize.py").write_text(_FORGETFUL)
    return {"PYTHONPATH": os.pathsep.join([str(folder), python_path])}
