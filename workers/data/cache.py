"""Shards of the store on the disk of this machine, shared by all processes on it.

Nothing is removed to make room for others. The folder may be of a file system that other machines share (a home), whose
locks may not reach from one to another, and there nobody can tell whether a file is mapped by a process that would die
of its removal.
"""

import fcntl
import os
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from uuid import uuid4

from workers.contract.data import Shard
from workers.data.errors import DatasetError
from workers.data.room import writing_to
from workers.storage import ObjectStore
from workers.storage.local import remove_if_left


def cached(shard: Shard, store: ObjectStore, *, source: str, folder: Path) -> Path:
    """The file of a shard, downloaded from the store's folder `source` unless a good copy is there.

    A copy that a full disk or a crash has spoilt is replaced. Of several processes one downloads, the others wait;
    where the file system has no locks, or they do not reach from one machine to another, several download.

    Raises:
        DatasetError: if the object itself is missing or spoilt, or there is no room for it.
    """
    path = folder / shard.name
    if _is_good(path, shard):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{shard.name}.lock").open("w") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed, also by a process that is killed
        if not _is_good(path, shard):
            _download(source + shard.name, shard, store, path)
    return path


def _is_good(path: Path, shard: Shard) -> bool:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest() == shard.sha256
    except FileNotFoundError:
        return False


def _download(key: str, shard: Shard, store: ObjectStore, path: Path) -> None:
    mend = f"delete {key.rpartition('/')[0]}/ from the store and import the data set again"
    try:
        data = store.get(key)
    except FileNotFoundError:
        raise DatasetError(f"{key} is missing in the store; {mend}") from None
    if sha256(data).hexdigest() != shard.sha256:
        raise DatasetError(f"{key} is not what was imported; {mend}")
    for left in path.parent.glob(f"{path.stem}*.writing"):
        remove_if_left(left)
    # Readers may have the old file mapped: it is replaced, never written to.
    temporary = path.with_name(f"{path.stem}.{uuid4().hex}.writing")
    try:
        with writing_to(path.parent, key, setting="CDM_CACHE"):
            temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
