"""What is not on this machine is brought here before it is opened, and removed afterwards."""

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path

import structlog

from workers.contract.addresses import INSIDE
from workers.contract.data import BuiltinDataset, DatasetToImport, FolderDataset
from workers.contract.locations import bucket_and_key, is_path, uploaded_id
from workers.data.errors import DatasetError
from workers.data.files import require_regular
from workers.data.remotes import Remote, of_bucket, uploaded
from workers.data.scratch import scratch_folder
from workers.environment import max_download_bytes, may_go_inside
from workers.storage import ObjectStore

log = structlog.get_logger()

OnBytes = Callable[[int, int | None], None]  # bytes that have come, and how many there are, if that is known

_SPARE_BYTES = 256 << 20  # what the disk of this machine needs for other things
_SAID_EVERY_SECONDS = 10.0


@contextmanager
def on_this_machine(dataset: DatasetToImport, store: ObjectStore, *, on_bytes: OnBytes) -> Iterator[DatasetToImport]:
    """The data set with a path that can be opened here, in the temporary folder (TMPDIR) if it was fetched.

    What is said of it while it is open names it as its owner does.

    Raises:
        DatasetError: it cannot be had, or is not what it is said to be.
    """
    if isinstance(dataset, BuiltinDataset | FolderDataset):
        yield dataset
        return
    if is_path(dataset.path):
        require_regular(Path(dataset.path))
        if dataset.sha256:
            _compare(_sha256_of(Path(dataset.path)), dataset.sha256, dataset.path)
        yield dataset
        return
    is_known = dataset.sha256 is not None
    with scratch_folder() as folder, _remote(dataset.path, store, is_known=is_known) as remote:
        file = folder / "images"
        found = fetch(remote, file, on_bytes=on_bytes)
        for expected in filter(None, (remote.sha256, dataset.sha256)):
            _compare(found, expected, remote.name)
        try:
            yield dataset.model_copy(update={"path": str(file)})
        except DatasetError as error:
            raise DatasetError(str(error).replace(str(file), remote.name)) from None


@contextmanager
def _remote(location: str, store: ObjectStore, *, is_known: bool) -> Iterator[Remote]:
    if upload_id := uploaded_id(location):
        yield uploaded(upload_id, store)
    elif place := bucket_and_key(location):
        yield of_bucket(*place)
    else:
        from workers.data.web import Web  # only those who fetch from the web pay for its import

        web = Web(max_bytes=max_download_bytes(), networks=INSIDE if may_go_inside() else ())
        with web.remote(location, is_known=is_known) as remote:
            yield remote


def fetch(remote: Remote, file: Path, *, on_bytes: OnBytes) -> str:
    """Write all of it to a new file; its sha256.

    Raises:
        DatasetError: there is no room for it, or it has not as many bytes as it should.
    """
    digest, done, said_at = sha256(), 0, time.monotonic()
    _require_room(remote.num_bytes or 0, file.parent, remote.name)
    log.info("dataset.fetching", name=remote.name, bytes=remote.num_bytes)
    with file.open("xb") as target:
        for piece in remote.pieces:
            if remote.num_bytes is None:
                _require_room(len(piece), file.parent, remote.name)
            _write(piece, target.write, remote.name)
            digest.update(piece)
            done += len(piece)
            on_bytes(done, remote.num_bytes)
            if time.monotonic() - said_at >= _SAID_EVERY_SECONDS:
                said_at = time.monotonic()
                log.info("dataset.fetching", bytes=done, of=remote.num_bytes)
    if remote.num_bytes not in (None, done):
        raise DatasetError(
            f"{remote.name}: {done} bytes of {remote.num_bytes} have come: it is cut off; bring it again"
        )
    log.info("dataset.fetched", bytes=done)
    return digest.hexdigest()


def _write(piece: bytes, write: Callable[[bytes], int], name: str) -> None:
    try:
        write(piece)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DatasetError(f"{name}: no room for it in the temporary folder (TMPDIR) of the worker") from None
        raise


def _require_room(num_bytes: int, folder: Path, name: str) -> None:
    free = shutil.disk_usage(folder).free - _SPARE_BYTES
    if num_bytes > free:
        has = f"which has {max(0, free) >> 20} MiB to spare"
        mend = "make room, or let TMPDIR be a folder of a larger disk"
        raise DatasetError(
            f"{name}: {num_bytes >> 20} MiB do not fit into {folder.parent} of the worker, {has}; {mend}"
        )


def _sha256_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read where the workers run: {error.strerror}") from None


def _compare(found: str, expected: str, name: str) -> None:
    if found != expected:
        raise DatasetError(f"{name}: is not what it should be: its sha256 is {found}, not {expected}; bring it again")
