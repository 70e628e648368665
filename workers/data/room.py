"""Room on a disk of this machine, which its users are told of when there is too little."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.data.errors import DatasetError

_SPARE_BYTES = 256 << 20  # what the disk of this machine needs for other things


def require_room(num_bytes: int, folder: Path, name: str) -> None:
    """See, before much is written for `name` to a folder of the temporary folder (TMPDIR), that it can be.

    Raises:
        DatasetError: there is not as much room.
    """
    free = shutil.disk_usage(folder).free - _SPARE_BYTES
    if num_bytes > free:
        has = f"which has {max(0, free) >> 20} MiB to spare"
        raise DatasetError(
            f"{name}: {num_bytes >> 20} MiB do not fit into {folder.parent} of the worker, {has}; {_mend('TMPDIR')}"
        )


@contextmanager
def writing_to(folder: Path, name: str, *, setting: str = "TMPDIR") -> Iterator[None]:
    """What is written in here for `name` goes to a folder of the one that `setting` names.

    Raises:
        DatasetError: its disk is full, or as much of it as this user may have.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DatasetError(f"{name}: no room for it in {folder.parent} of the worker; {_mend(setting)}") from None


@contextmanager
def new_file(path: Path, name: str) -> Iterator[Callable[[bytes], None]]:
    """What writes to a file that is new, in a folder of the temporary folder (TMPDIR), for `name`.

    Raises:
        DatasetError: as `writing_to`; also at its end, when what is left in memory is written.
    """
    with writing_to(path.parent, name):
        file = path.open("xb")

    def write(data: bytes) -> None:
        with writing_to(path.parent, name):
            file.write(data)

    try:
        yield write
    finally:
        with writing_to(path.parent, name):
            file.close()


def _mend(setting: str) -> str:
    return f"make room, or let {setting} be a folder of a larger disk"
