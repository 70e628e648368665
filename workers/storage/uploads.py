"""Files that clients have sent into a store, in parts."""

from collections.abc import Iterator

from workers.contract.keys import UploadKeys
from workers.contract.uploads import UploadRecord
from workers.storage.base import ObjectStore

_PIECE_BYTES = 8 << 20
_AGAIN = "upload the file again"


def upload_record(upload_id: str, store: ObjectStore) -> UploadRecord:
    """What is known of one; raises FileNotFoundError, saying what is missing and the mend, if it is gone."""
    try:
        return UploadRecord.model_validate_json(store.get(UploadKeys(upload_id).record))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no such upload any more; {_AGAIN}") from None


def upload_pieces(upload_id: str, record: UploadRecord, store: ObjectStore) -> Iterator[bytes]:
    """All of it, one after the other; raises as `upload_record` where a part of it is gone."""
    keys = UploadKeys(upload_id)
    for number, size in enumerate(record.part_sizes):
        for offset in range(0, size, _PIECE_BYTES):
            try:
                yield store.part(keys.part(number), offset, min(_PIECE_BYTES, size - offset))
            except FileNotFoundError:
                raise FileNotFoundError(f"its part {number} is not there; {_AGAIN}") from None
