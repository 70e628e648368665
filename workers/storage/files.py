"""Files at paths that somebody else has named."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one: a pipe would be waited for, and a device may have no end.

    Raises:
        OSError: it is something else, or cannot be opened.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (Path has no opener; the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file; name one", str(path))
    return file


def read_regular(path: Path, *, most_bytes: int) -> bytes:
    """All of a file.

    Raises:
        OSError: as `open_regular`; or it is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise too_large(most_bytes)
        return file.read(size)


def too_large(most_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most_bytes >> 20} MiB; name a smaller file")


def _without_waiting(path: str, flags: int) -> int:
    """For the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
