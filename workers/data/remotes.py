"""Files that are not on this machine, as pieces that come one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass

from workers.contract.uploads import UploadRecord
from workers.data.errors import DatasetError
from workers.storage import ObjectStore, open_store
from workers.storage.ahead import pieces
from workers.storage.uploads import upload_pieces, upload_record


@dataclass(frozen=True, slots=True)
class Remote:
    """A file by the name that its owner knows; its size and sha256, as far as anybody has said."""

    name: str
    num_bytes: int | None
    sha256: str | None
    pieces: Iterator[bytes]


def uploaded(upload_id: str, store: ObjectStore) -> Remote:
    """What a client has sent.

    Raises:
        DatasetError: it is not there any more.
    """
    try:
        record = upload_record(upload_id, store)
    except FileNotFoundError as error:
        raise DatasetError(f"upload://{upload_id}: {error}") from None
    return Remote(record.name, record.num_bytes, record.sha256, _pieces(upload_id, record, store))


def _pieces(upload_id: str, record: UploadRecord, store: ObjectStore) -> Iterator[bytes]:
    try:
        yield from upload_pieces(upload_id, record, store)
    except FileNotFoundError as error:
        raise DatasetError(f"{record.name}: {error}") from None


def of_bucket(bucket: str, key: str) -> Remote:
    """An object that the workers may read by their own credentials; raises as `object_of`."""
    return object_of(open_store(f"s3://{bucket}"), key, place=f"s3://{bucket}/{key}")


def object_of(store: ObjectStore, key: str, *, place: str) -> Remote:
    """An object of a bucket, as its owner knows its place.

    Raises:
        DatasetError: the workers may not read it, or there is none.
    """
    try:
        num_bytes = store.size(key)
    except FileNotFoundError:
        raise DatasetError(f"{place}: there is no such object") from None
    except PermissionError:
        raise not_readable(place) from None
    return Remote(place, num_bytes, None, pieces(store, key, num_bytes))


def not_readable(place: str) -> DatasetError:
    """What is said of an object that the credentials of the workers do not open."""
    return DatasetError(f"{place}: the workers may not read it; give them the right to, or upload the file")
