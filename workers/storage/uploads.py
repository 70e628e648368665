"""Files that clients have sent into a store, in parts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from workers.contract.keys import UploadKeys
from workers.contract.uploads import UploadRecord
from workers.storage.ahead import STORE_STREAMS, ahead
from workers.storage.base import ObjectStore

_PIECE_BYTES = 8 << 20
_AGAIN = "upload the file again"


def upload_record(upload_id: str, store: ObjectStore) -> UploadRecord:
    """What is known of one; raises FileNotFoundError, saying what is missing and the mend, if it is gone."""
    try:
        return UploadRecord.model_validate_json(store.get(UploadKeys(upload_id).record))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no such upload any more; {_AGAIN}") from None


def upload_pieces(
    upload_id: str, record: UploadRecord, store: ObjectStore, *, most_bytes: int | None = None
) -> Iterator[bytes]:
    """Its first `most_bytes`, or all of it, piece by piece in their order, several of them on their way at a time.

    Raises:
        FileNotFoundError: a part of it is gone; says which, and the mend.
        PermissionError: it is nobody's business here.
    """
    keys = UploadKeys(upload_id)

    def read(span: _Span) -> bytes:
        try:
            return store.part(keys.part(span.part), span.offset, span.num_bytes)
        except FileNotFoundError:
            raise FileNotFoundError(f"its part {span.part} is not there; {_AGAIN}") from None

    spans = _spans(record.part_sizes, record.num_bytes if most_bytes is None else most_bytes)
    return ahead(read, spans, threads=STORE_STREAMS, most=STORE_STREAMS)


class _Span(NamedTuple):
    """Where a piece lies: in which part, and where in it."""

    part: int
    offset: int
    num_bytes: int


def _spans(part_sizes: Sequence[int], num_bytes: int) -> Iterator[_Span]:
    """Those of the first `num_bytes` of so large parts."""
    left = num_bytes
    for part, size in enumerate(part_sizes):
        wanted = min(size, left)
        for offset in range(0, wanted, _PIECE_BYTES):
            yield _Span(part, offset, min(_PIECE_BYTES, wanted - offset))
        left -= wanted
