"""Files that are not on this machine, as pieces that come one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass

from workers.contract.keys import UploadKeys
from workers.contract.uploads import UploadRecord
from workers.data.errors import DatasetError
from workers.storage import ObjectStore

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
