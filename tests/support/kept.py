"""Committed checkpoints whose files are made up."""

import hashlib
from datetime import datetime

from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.records import CheckpointFile, CheckpointManifest
from workers.storage import ObjectStore

AT = "2026-11-01T00:00:00Z"


def checkpoint(
    store: ObjectStore, job_id: str, images_seen: int, *, attempt: int = 1, at: datetime | str = AT, **files: bytes
) -> str:
    """Its folder; the file `ema` is called `ema.safetensors`."""
    folder = JobKeys(job_id).checkpoint(images_seen, attempt)
    listed = []
    for name, data in files.items():
        store.put(f"{folder}{name}.safetensors", data)
        digest = hashlib.sha256(data).hexdigest()
        listed.append(CheckpointFile(name=f"{name}.safetensors", num_bytes=len(data), sha256=digest))
    manifest = {"images_seen": images_seen, "attempt": attempt, "spec_sha256": "0" * 64, "created_at": at}
    document = CheckpointManifest.model_validate({**manifest, "files": tuple(listed)})
    store.put(folder + MANIFEST, document.model_dump_json().encode())
    return folder


def remove(store: ObjectStore, folder: str) -> None:
    """As its training does that has newer ones (workers/training/retention.py)."""
    for key in sorted(store.list(folder), key=lambda key: key != folder + MANIFEST):
        store.delete(key)
