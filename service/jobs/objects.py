"""What workers left in the object store about jobs, read without blocking the event loop."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

import structlog
from pydantic import ValidationError

from service.errors import StorageUnavailable
from service.jobs.records import AttemptRecord
from workers.contract.document import Document
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.records import CheckpointManifest, Claim, Outcome, Progress
from workers.storage import ObjectStore

log = structlog.get_logger()
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Record = TypeVar("_Record", bound=Document)


class JobObjects:
    """The objects of all jobs under one store."""

    def __init__(self, store: ObjectStore, *, url: str) -> None:
        self._store = store
        self._url = url.rstrip("/")

    def uri(self, key: str) -> str:
        return f"{self._url}/{key}"

    async def save_spec(self, job_id: str, spec: bytes) -> None:
        await _called(self._store.put, JobKeys(job_id).spec, spec)

    async def outcome(self, job_id: str, attempt: int) -> Outcome | None:
        return await self._record(Outcome, JobKeys(job_id).attempt(attempt).outcome)

    async def progress(self, job_id: str, attempt: int) -> Progress | None:
        return await self._record(Progress, JobKeys(job_id).attempt(attempt).progress)

    async def revoke(self, attempt: AttemptRecord) -> bool:
        """Claim an attempt in place of its driver, which will leave when it finds that; False if the driver was first.

        The claim is always the same, so that repeating this after a crash finds its own.
        """
        key = JobKeys(attempt.job_id).attempt(attempt.number).claim
        claim = Claim(host="revoked by the service", pid=0, claimed_at=attempt.created_at).model_dump_json().encode()
        absent = await _called(self._store.put_if_absent, key, claim)
        return absent or await self._bytes(key) == claim

    async def log(self, job_id: str, attempt: int) -> bytes | None:
        """The copy made when the attempt was over."""
        return await self._bytes(JobKeys(job_id).attempt(attempt).log)

    async def save_log(self, job_id: str, attempt: int, text: str) -> None:
        await _called(self._store.put, JobKeys(job_id).attempt(attempt).log, text.encode())

    async def checkpoints(self, job_id: str) -> list[tuple[str, CheckpointManifest]]:
        """Folder and manifest of each committed checkpoint, oldest first; one that lacks a file is none."""
        keys = await _called(self._store.list, JobKeys(job_id).checkpoints)
        present, found = set(keys), []
        for key in keys:
            folder, _, name = key.rpartition("/")
            manifest = await self._record(CheckpointManifest, key) if name == MANIFEST else None
            if manifest and all(f"{folder}/{file.name}" in present for file in manifest.files):
                found.append((folder, manifest))
        return found

    async def samples(self, job_id: str) -> list[int]:
        """Images seen at each sample grid, ascending."""
        prefix = JobKeys(job_id).samples
        keys = await _called(self._store.list, prefix)
        names = (key.removeprefix(prefix).removesuffix(".png") for key in keys if key.endswith(".png"))
        return sorted(int(name) for name in names if name.isdecimal())

    async def sample(self, job_id: str, images_seen: int) -> bytes | None:
        return await self._bytes(JobKeys(job_id).sample(images_seen))

    async def ping(self) -> None:
        """Return if the store answers."""
        with suppress(FileNotFoundError):
            await asyncio.to_thread(self._store.get, "readiness")

    async def _bytes(self, key: str) -> bytes | None:
        try:
            return await _called(self._store.get, key)
        except FileNotFoundError:
            return None

    async def _record(self, kind: type[_Record], key: str) -> _Record | None:
        """A record; one that cannot be read says nothing, and is as good as none."""
        data = await self._bytes(key)
        try:
            return kind.model_validate_json(data) if data else None
        except ValidationError as error:
            log.warning("record.unreadable", key=key, num_errors=error.error_count())
            return None


async def _called(
    method: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Result:
    """What a blocking method of the store returns; each backend fails in its own way, all mean the same here."""
    try:
        return await asyncio.to_thread(method, *args, **kwargs)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StorageUnavailable(f"the object store does not answer ({type(error).__name__}): try again") from error
