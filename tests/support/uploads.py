"""A file that a client has sent, as it lies in a store."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from workers.contract.keys import UploadKeys
from workers.contract.uploads import UploadRecord
from workers.storage.memory import MemoryStore

ID = "upl_01ARZ3NDEKTSV4RRFFQ69G5FAV"
UPLOAD = f"upload://{ID}"


def uploaded(content: bytes, *, into: MemoryStore | None = None, part_bytes: int = 500, **fields: Any) -> MemoryStore:
    store, at = into or MemoryStore(), datetime(2026, 11, 1, tzinfo=UTC)
    record = UploadRecord.model_validate(
        {
            "project": "default",
            "name": "noise.npz",
            "num_bytes": len(content),
            "part_bytes": part_bytes,
            "sha256": sha256(content).hexdigest(),
            "created_at": at,
            "expires_at": at + timedelta(days=3),
        }
        | fields
    )
    store.put(UploadKeys(ID).record, record.model_dump_json().encode())
    for number in range(len(record.part_sizes)):
        start = number * part_bytes
        store.put(UploadKeys(ID).part(number), content[start : start + record.part_sizes[number]])
    return store
