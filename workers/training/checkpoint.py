"""Checkpoints: files in the object store, and a manifest that is written last."""

import hashlib
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import safetensors.torch
import structlog
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.records import CheckpointFile, CheckpointManifest
from workers.storage import ObjectStore
from workers.storage.ahead import pieces
from workers.storage.job_folder import committed_checkpoints, newest_attempt
from workers.training.backend import code_digest
from workers.training.snapshot import Snapshot, load_contents, needed_files
from workers.training.state import TrainState

log = structlog.get_logger()


class DamagedCheckpointError(Exception):
    """A file of a committed checkpoint is missing or is not what the manifest says."""


class ForeignCheckpointError(DamagedCheckpointError):
    """It is what was written, and cannot be read all the same: workers of another release wrote it."""


class FencedError(Exception):
    """A later attempt has begun; this one must leave without a trace."""


def save_checkpoint(
    snapshot: Snapshot, store: ObjectStore, keys: JobKeys, *, attempt: int, spec_sha256: str
) -> CheckpointManifest:
    """Write a snapshot so that it exists wholly or not at all: the manifest is the commit point.

    Raises:
        FencedError: before committing, if a later attempt has been claimed.
        FileNotFoundError: before committing, if another group of workers of this attempt has removed a file, which it
            took for one of an upload that died. It may be written again.
    """
    folder = keys.checkpoint(snapshot.images_seen, attempt)
    files = []
    for name, data in snapshot.files():
        store.put(folder + name, data)
        files.append(CheckpointFile(name=name, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()))
    manifest = CheckpointManifest(
        images_seen=snapshot.images_seen,
        attempt=attempt,
        spec_sha256=spec_sha256,
        created_at=datetime.now(UTC),
        files=tuple(files),
        code=code_digest(),
    )
    if newest_attempt(store, keys) > attempt:
        raise FencedError(f"attempt {attempt} has been superseded")
    if gone := {folder + file.name for file in files} - {*store.list(folder)}:
        raise FileNotFoundError(f"removed before the checkpoint was whole: {', '.join(sorted(gone))}")
    store.put(folder + MANIFEST, _sealed(manifest))
    return manifest


def restore_latest(state: TrainState, store: ObjectStore, keys: JobKeys) -> str | None:
    """Put the newest whole checkpoint into `state` and return its folder; None if there is none.

    A damaged one is passed over, loudly.

    Raises:
        ForeignCheckpointError: training from before it would do again, and then remove, what another release can read.
    """
    for folder in reversed(committed_checkpoints(store, keys)):
        try:
            restore(state, store, folder)
        except (ForeignCheckpointError, ValueError) as error:  # of the same job's document, every byte of it as written
            raise ForeignCheckpointError(f"{folder}: {error}") from error
        except DamagedCheckpointError as error:
            log.warning("checkpoint.damaged", folder=folder, error=str(error))
        else:
            return folder
    return None


def restore(state: TrainState, store: ObjectStore, folder: str) -> None:
    """Put one checkpoint into `state`, after every byte of it has been verified.

    It takes memory for all tensors of the checkpoint once: of bytes, those of one file are held, the largest first, and
    a few pieces of it on their way.

    Raises:
        DamagedCheckpointError: and `state` is as it was.
        ForeignCheckpointError: likewise; it never had a file that the state needs, or as `read_manifest`.
    """
    manifest = read_manifest(store, folder)
    needed = needed_files(state.average_names)
    if missing := needed - {file.name for file in manifest.files}:
        kind = ForeignCheckpointError if manifest.seal else DamagedCheckpointError
        raise kind(f"{MANIFEST} lists no {' and no '.join(sorted(missing))}")
    tensors = {}
    for file in sorted(manifest.files, key=lambda each: -each.num_bytes):
        data = read_file(store, folder, file)
        if file.name in needed:
            tensors[file.name] = safetensors.torch.load(data)
        del data  # before the next one is read
    load_contents(state, tensors)
    state.images_seen = manifest.images_seen


def read_manifest(store: ObjectStore, folder: str) -> CheckpointManifest:
    """What a committed checkpoint says it consists of. One of a later release may say more.

    Raises:
        DamagedCheckpointError: it is not there, or not what was written.
        ForeignCheckpointError: it cannot be read.
    """
    try:
        data = store.get(folder + MANIFEST)
        document = from_json(data)
    except (FileNotFoundError, ValueError) as error:
        raise DamagedCheckpointError(f"{MANIFEST}: {error}") from error
    is_sealed = _is_sealed(document, data)
    try:  # those of before had no seal, and no fields that are unknown now
        return CheckpointManifest.model_validate_json(data, extra="ignore" if is_sealed else "forbid")
    except ValidationError as error:
        kind = ForeignCheckpointError if is_sealed else DamagedCheckpointError
        raise kind(f"{MANIFEST}: {error}") from error


def listed(manifest: CheckpointManifest, name: str) -> CheckpointFile:
    """The file of this name.

    Raises:
        DamagedCheckpointError: there is none.
    """
    for file in manifest.files:
        if file.name == name:
            return file
    raise DamagedCheckpointError(f"{MANIFEST} lists no {name}")


def read_file(store: ObjectStore, folder: str, file: CheckpointFile) -> bytes:
    """One file of a checkpoint, verified.

    Raises:
        DamagedCheckpointError: it is not there, or not what the manifest says.
    """
    key, digest = folder + file.name, hashlib.sha256()
    whole = BytesIO()  # whose bytes are had without a copy
    try:
        num_bytes = store.size(key)
        if num_bytes == file.num_bytes:
            for piece in pieces(store, key, num_bytes):
                whole.write(piece)
                digest.update(piece)
    except FileNotFoundError:
        raise DamagedCheckpointError(f"{file.name} is missing") from None
    if (num_bytes, digest.hexdigest()) != (file.num_bytes, file.sha256):
        raise DamagedCheckpointError(f"{file.name} has {num_bytes} bytes that are not those written")
    return whole.getvalue()


def _is_sealed(document: Any, data: bytes) -> bool:
    """Whether it has a seal; those of before had none.

    Raises:
        DamagedCheckpointError: these are not the bytes that were written.
    """
    is_as_written = isinstance(document, dict) and data == to_json(document, indent=2)
    seal = document.pop("seal", None) if is_as_written else None
    if not is_as_written or seal not in (None, _seal(document)):  # a seal that is damaged need not be hashable
        raise DamagedCheckpointError(f"{MANIFEST} has {len(data)} bytes that are not those written")
    return seal is not None


def _sealed(manifest: CheckpointManifest) -> bytes:
    document = manifest.model_dump(mode="json", exclude={"seal"})
    return to_json(document | {"seal": _seal(document)}, indent=2)


def _seal(document: dict[str, Any]) -> str:
    return hashlib.sha256(to_json(document)).hexdigest()
