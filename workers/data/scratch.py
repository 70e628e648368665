"""Folders that are needed for a while, and the removal of those that killed processes have left."""

import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import structlog

log = structlog.get_logger()

_NEW, _USED = "cdm-new-", "cdm-scratch-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder in the temporary folder (TMPDIR), removed afterwards.

    What others on this machine have left there goes first: hundreds of gigabytes, maybe. Whoever lives holds a lock on
    its folder, which ends with the process, however that ends. Where the file system has no locks, nothing is taken for
    left; nor are folders of other machines, whose locks may not reach to this one.
    """
    _remove_what_is_left()
    new = Path(tempfile.mkdtemp(prefix=_NEW, suffix=_of_this_machine()))
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(_locked(new))
        folder = new.rename(new.with_name(_USED + new.name.removeprefix(_NEW)))  # nobody sees it without its lock
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _of_this_machine() -> str:
    """What the names of its folders end with."""
    return f"={socket.gethostname()}"


def _remove_what_is_left() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_USED}*{_of_this_machine()}"):
        with suppress(OSError), _locked(folder):  # in use, or somebody else's
            shutil.rmtree(folder, ignore_errors=True)
            log.info("scratch.removed", folder=str(folder))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises: OSError. It is locked already, or cannot be."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
