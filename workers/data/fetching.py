"""What is not on this machine is brought here before it is opened, and removed afterwards."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import file_digest, sha256
from pathlib import Path

import structlog

from workers.contract.addresses import INSIDE
from workers.contract.data import BuiltinDataset, DatasetToImport, FolderDataset, ParquetDataset, WebDataset
from workers.contract.locations import bucket_and_key, is_bucket_folder, is_path, uploaded_id
from workers.data.buckets import bucket_shards
from workers.data.errors import DatasetError
from workers.data.files import require_regular
from workers.data.remotes import Remote, of_bucket, uploaded
from workers.data.room import new_file, require_room
from workers.data.scratch import scratch_folder
from workers.environment import max_download_bytes, may_go_inside
from workers.storage import ObjectStore

log = structlog.get_logger()

OnBytes = Callable[[int, int | None], None]  # bytes that have come, and how many there are, if that is known

_SAID_EVERY_SECONDS = 10.0


@contextmanager
def on_this_machine(dataset: DatasetToImport, store: ObjectStore, *, on_bytes: OnBytes) -> Iterator[DatasetToImport]:
    """The data set with a path that can be opened here, in the temporary folder (TMPDIR) if it was fetched.

    A folder of images in a bucket is opened where it lies.

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
    with scratch_folder() as folder:
        target = folder / "images"
        if isinstance(dataset, ParquetDataset | WebDataset) and is_bucket_folder(dataset.path):
            name = _fetch_shards(dataset, target, on_bytes)
        else:
            opened = _remote(dataset.path, store, is_known=dataset.sha256 is not None)
            name = _fetch_file(opened, dataset.sha256, target, on_bytes)
        try:
            yield dataset.model_copy(update={"path": str(target)})
        except DatasetError as error:
            raise DatasetError(str(error).replace(str(target), name)) from None


@contextmanager
def fetched(
    opened: AbstractContextManager[Remote], digest: str | None, *, on_bytes: OnBytes
) -> Iterator[tuple[Path, str]]:
    """A copy of a file in the temporary folder, and the name that its owner knows. `digest`: its sha256, if known.

    Raises:
        DatasetError: it cannot be had, or is not what it is said to be.
    """
    with scratch_folder() as folder:
        file = folder / "file"
        yield file, _fetch_file(opened, digest, file, on_bytes)


def _fetch_file(opened: AbstractContextManager[Remote], digest: str | None, target: Path, on_bytes: OnBytes) -> str:
    """What its owner calls it."""
    with opened as remote:
        found = fetch(remote, target, on_bytes=on_bytes)
        for expected in filter(None, (remote.sha256, digest)):
            _compare(found, expected, remote.name)
        return remote.name


def _fetch_shards(dataset: ParquetDataset | WebDataset, target: Path, on_bytes: OnBytes) -> str:
    """What their owner calls the folder that they lie in."""
    place = dataset.path.rstrip("/")
    shards = bucket_shards(dataset.path, dataset.suffix, split=dataset.split, on_listed=lambda: on_bytes(0, None))
    total, done = sum(shard.num_bytes or 0 for _, shard in shards), 0
    require_room(total, target.parent, place)
    target.mkdir()
    for name, shard in shards:
        fetch(shard, target / name, on_bytes=_counted_on(done, total, on_bytes))
        done += shard.num_bytes or 0
    return place


def _counted_on(before: int, total: int, on_bytes: OnBytes) -> OnBytes:
    return lambda done, _: on_bytes(before + done, total)


@contextmanager
def _remote(location: str, store: ObjectStore, *, is_known: bool) -> Iterator[Remote]:
    if upload_id := uploaded_id(location):
        yield uploaded(upload_id, store)
    else:
        with elsewhere(location, is_known=is_known) as remote:
            yield remote


@contextmanager
def elsewhere(location: str, *, is_known: bool) -> Iterator[Remote]:
    """An object of a bucket, or a file of the web. `is_known`: its sha256 will be compared.

    Raises:
        DatasetError: it cannot be had, or should not be.
    """
    if place := bucket_and_key(location):
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
    require_room(remote.num_bytes or 0, file.parent, remote.name)
    log.info("file.fetching", name=remote.name, bytes=remote.num_bytes)
    with new_file(file, remote.name) as write:
        for piece in remote.pieces:
            if remote.num_bytes is None:
                require_room(len(piece), file.parent, remote.name)
            write(piece)
            digest.update(piece)
            done += len(piece)
            on_bytes(done, remote.num_bytes)
            if time.monotonic() - said_at >= _SAID_EVERY_SECONDS:
                said_at = time.monotonic()
                log.info("file.fetching", bytes=done, of=remote.num_bytes)
    if remote.num_bytes not in (None, done):
        raise DatasetError(
            f"{remote.name}: {done} bytes of {remote.num_bytes} have come: it is cut off; bring it again"
        )
    log.info("file.fetched", bytes=done)
    return digest.hexdigest()


def _sha256_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read where the workers run: {error.strerror}") from None


def _compare(found: str, expected: str, name: str) -> None:
    if found != expected:
        raise DatasetError(f"{name}: is not what it should be: its sha256 is {found}, not {expected}; bring it again")
