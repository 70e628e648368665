"""Files that are not on this machine, as pieces that come one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass

from workers.contract.keys import UploadKeys
from workers.contract.uploads import UploadRecord
from workers.data.errors import DatasetError
from workers.storage import ObjectStore, open_store

_PIECE_BYTES = 8 << 20
_AGAIN = "upload the file again"


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
    keys = UploadKeys(upload_id)
    try:
        record = UploadRecord.model_validate_json(store.get(keys.record))
    except FileNotFoundError:
        raise DatasetError(f"upload://{upload_id}: there is no such upload any more; {_AGAIN}") from None
    return Remote(record.name, record.num_bytes, record.sha256, _parts(record, keys, store))


def _parts(record: UploadRecord, keys: UploadKeys, store: ObjectStore) -> Iterator[bytes]:
    for number, size in enumerate(record.part_sizes):
        for offset in range(0, size, _PIECE_BYTES):
            try:
                yield store.part(keys.part(number), offset, min(_PIECE_BYTES, size - offset))
            except FileNotFoundError:
                raise DatasetError(f"{record.name}: its part {number} is not there; {_AGAIN}") from None


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
    offsets = range(0, num_bytes, _PIECE_BYTES)
    return Remote(place, num_bytes, None, (store.part(key, offset, _PIECE_BYTES) for offset in offsets))


def not_readable(place: str) -> DatasetError:
    """What is said of an object that the credentials of the workers do not open."""
    return DatasetError(f"{place}: the workers may not read it; give them the right to, or upload the file")
