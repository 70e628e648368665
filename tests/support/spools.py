"""Spools for tests, and what they have on disk."""

import os
from pathlib import Path

from workers.tracking.events import Event, decode, encode, num_bytes
from workers.tracking.spool import DISK_BYTES, MEMORY_BYTES, Spool


def text_spool(folder: Path, *, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES) -> Spool[str]:
    return Spool(str.encode, bytes.decode, len, folder=folder, memory_bytes=memory_bytes, disk_bytes=disk_bytes)


def event_spool(folder: Path, *, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES) -> Spool[Event]:
    return Spool(encode, decode, num_bytes, folder=folder, memory_bytes=memory_bytes, disk_bytes=disk_bytes)


def open_files_in(folder: Path) -> int:
    """How many files of a folder this process has open, those without a name among them."""
    descriptors = Path("/proc/self/fd")
    return sum(os.path.realpath(each).startswith(f"{folder}{os.sep}") for each in descriptors.iterdir())
