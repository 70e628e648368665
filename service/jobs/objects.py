"""What workers left in the object store about jobs, read without blocking the event loop."""

import asyncio
from collections.abc import AsyncIterator, Set
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import structlog

from service.jobs.records import AttemptRecord
from service.storage import get_or_none, in_thread, of_each, record_or_none, remove_all, some_at_a_time
from workers.contract.curves import curve_points
from workers.contract.data import DatasetManifest
from workers.contract.evaluation import Evaluation
from workers.contract.keys import INSTALLATION, JOBS, MANIFEST, JobKeys, dataset_folder
from workers.contract.metric_rows import MeasuredRow, rows_of
from workers.contract.records import CheckpointManifest, CheckpointRef, Claim, Outcome, Progress
from workers.storage import ObjectStore
from workers.storage.job_folder import attempt_numbers, committed_checkpoints, newest_attempt

log = structlog.get_logger()

_LINK_SECONDS = 3600
_PIECE_BYTES = 8 << 20
_ROWS_AT_A_TIME = 500
_REVOKED = "revoked by the service"  # as the host of a claim that is our own
_FENCED = "fenced by the service"
_OURS = {_REVOKED, _FENCED}


class JobObjects:
    """The objects of all jobs under one store."""

    def __init__(self, object_store: ObjectStore, *, url: str) -> None:
        self._object_store = object_store
        self.url = url.rstrip("/")

    def uri(self, key: str) -> str:
        return f"{self.url}/{key}"

    async def save_spec(self, job_id: str, spec: bytes) -> None:
        await in_thread(self._object_store.put, JobKeys(job_id).spec, spec)

    async def outcome(self, job_id: str, attempt: int) -> Outcome | None:
        return await record_or_none(self._object_store, Outcome, JobKeys(job_id).attempt(attempt).outcome)

    async def progress(self, job_id: str, attempt: int) -> Progress | None:
        return await record_or_none(self._object_store, Progress, JobKeys(job_id).attempt(attempt).progress)

    async def revoke(self, attempt: AttemptRecord) -> bool:
        """Claim an attempt in place of its driver, which will leave when it finds that; False if the driver was first.

        The claim is always the same, so that repeating this after a crash finds its own.
        """
        key = JobKeys(attempt.job_id).attempt(attempt.number).claim
        claim = Claim(host=_REVOKED, pid=0, claimed_at=attempt.created_at).model_dump_json().encode()
        absent = await in_thread(self._object_store.put_if_absent, key, claim)
        return absent or await get_or_none(self._object_store, key) == claim

    async def fence(self, attempt: AttemptRecord) -> None:
        """Claim the number behind an attempt: its driver finds that before it commits anything more, and leaves."""
        key = JobKeys(attempt.job_id).attempt(attempt.number + 1).claim
        claim = Claim(host=_FENCED, pid=0, claimed_at=attempt.created_at).model_dump_json().encode()
        await in_thread(self._object_store.put_if_absent, key, claim)

    async def is_claimed(self, attempt: AttemptRecord) -> bool:
        """Whether a driver has it. Our own revocation, which a crash may have left half done, is no driver."""
        claim = await record_or_none(self._object_store, Claim, JobKeys(attempt.job_id).attempt(attempt.number).claim)
        return claim is not None and claim.host not in _OURS

    async def newest_claim(self, job_id: str) -> int:
        """The highest attempt that anyone has claimed; 0 before the first."""
        return await in_thread(newest_attempt, self._object_store, JobKeys(job_id))

    async def log_sources(self, job_id: str, attempt: int) -> list[str]:
        """Whose logs there are."""
        return await in_thread(self._object_store.folders, JobKeys(job_id).attempt(attempt).logs)

    async def log_starts(self, job_id: str, attempt: int, source: str) -> list[int]:
        """The byte at which each chunk of a log starts, ascending."""
        keys = JobKeys(job_id).attempt(attempt)
        return keys.log_starts(source, await in_thread(self._object_store.list, keys.log_stream(source)))

    async def log_chunk(self, job_id: str, attempt: int, source: str, start: int) -> bytes:
        return await get_or_none(self._object_store, JobKeys(job_id).attempt(attempt).log_chunk(source, start)) or b""

    async def save_log_chunk(self, job_id: str, attempt: int, source: str, data: bytes) -> None:
        """A log as one chunk."""
        await in_thread(self._object_store.put, JobKeys(job_id).attempt(attempt).log_chunk(source, 0), data)

    async def save_record(self, job_id: str, record: bytes) -> None:
        """The service's own copy of what it knows of a job, for a database that was lost."""
        await in_thread(self._object_store.put, JobKeys(job_id).record, record)

    async def save_first_record(self, job_id: str, record: bytes) -> None:
        """The copy of a new job, unless there is one by now, which is newer."""
        await in_thread(self._object_store.put_if_absent, JobKeys(job_id).record, record)

    async def record(self, job_id: str) -> bytes | None:
        return await get_or_none(self._object_store, JobKeys(job_id).record)

    async def job_ids(self) -> list[str]:
        """Every job that has ever left anything here."""
        return await in_thread(self._object_store.folders, JOBS)

    async def is_ours(self, job_id: str, number: int) -> bool:
        """Whether a number was taken by the service itself, so that no attempt ever has it."""
        claim = await record_or_none(self._object_store, Claim, JobKeys(job_id).attempt(number).claim)
        return claim is not None and claim.host in _OURS

    async def installation(self, fresh: str) -> str:
        """Who we are on an engine; kept here too, so that a database that was lost does not change it."""
        await in_thread(self._object_store.put_if_absent, INSTALLATION, fresh.encode())
        return (await in_thread(self._object_store.get, INSTALLATION)).decode()

    async def known_installation(self) -> str | None:
        """Whose store it is; None if nobody has said so."""
        kept = await get_or_none(self._object_store, INSTALLATION)
        return kept.decode() if kept else None

    async def heeds_conditions(self) -> bool:
        """Whether the store refuses to write what is there; if not, nothing keeps two drivers from one attempt."""
        kept = await in_thread(self._object_store.get, INSTALLATION)
        return not await in_thread(self._object_store.put_if_absent, INSTALLATION, kept)

    async def save_origin(self, job_id: str, origin: CheckpointRef) -> CheckpointRef:
        """Where a fork starts, settled once, whatever comes later: this, or what was settled before."""
        await in_thread(self._object_store.put_if_absent, JobKeys(job_id).origin, origin.model_dump_json().encode())
        return await self.origin(job_id) or origin

    async def origin(self, job_id: str) -> CheckpointRef | None:
        """Where a fork starts, once that is settled."""
        return await record_or_none(self._object_store, CheckpointRef, JobKeys(job_id).origin)

    async def pin(self, checkpoint: CheckpointRef, *, at: datetime, job_id: str | None = None) -> bool:
        """Keep a checkpoint for good, or until this job is done with it (workers/training/retention.py).

        False if its own job has removed it before.
        """
        keys = JobKeys(checkpoint.job_id)
        pin = keys.pin(checkpoint.images_seen, checkpoint.attempt, job_id)
        manifest = keys.checkpoint(checkpoint.images_seen, checkpoint.attempt) + MANIFEST
        await in_thread(self._object_store.put, pin, at.isoformat().encode())
        return await get_or_none(self._object_store, manifest) is not None

    async def pins(self, job_id: str) -> dict[str, str]:
        """The keys of the pins that jobs keep checkpoints of this one by, each with the id of its job."""
        keys = JobKeys(job_id)
        holders = {pin: keys.holder(pin) for pin in await in_thread(self._object_store.list, keys.pins)}
        return {pin: holder for pin, holder in holders.items() if holder}

    async def unpin(self, pin: str, *, grace: timedelta, now: datetime) -> bool:
        """Take a pin away; False if it is younger than that. Those of an earlier release say no time: from now on."""
        made_at = await get_or_none(self._object_store, pin)
        if not made_at:
            await in_thread(self._object_store.put, pin, now.isoformat().encode())
            return False
        if datetime.fromisoformat(made_at.decode()) >= now - grace:
            return False
        await in_thread(self._object_store.delete, pin)
        return True

    async def metric_rows(self, job_id: str) -> AsyncIterator[list[MeasuredRow]]:
        """All that was ever measured of a job, some rows at a time: attempt by attempt, then by its evaluations.

        A long training has left a chunk for each row: tens of thousands.
        """
        keys = JobKeys(job_id)
        rows: list[MeasuredRow] = []
        for number in await in_thread(attempt_numbers, self._object_store, keys):
            for some in some_at_a_time(await in_thread(self._object_store.list, keys.attempt(number).metrics)):
                for found in await asyncio.gather(
                    *(in_thread(_readable_rows, self._object_store, key) for key in some)
                ):
                    rows += found
                if len(rows) >= _ROWS_AT_A_TIME:
                    yield rows
                    rows = []
        evaluations = await self.evaluations(job_id)
        points = curve_points(evaluations)
        yield rows + [
            MeasuredRow(each.checkpoint.images_seen, each.ended_at.timestamp(), points[each.job_id])
            for each in evaluations
        ]

    async def remove(self, prefix: str) -> None:
        """Delete everything that begins so."""
        await remove_all(self._object_store, prefix)

    async def checkpoint_images(self, job_id: str) -> list[int]:
        """Images seen at each checkpoint, ascending, by the names of those that have a manifest: none is read."""
        keys = JobKeys(job_id)
        return [
            keys.of_checkpoint(folder)[0] for folder in await in_thread(committed_checkpoints, self._object_store, keys)
        ]

    async def checkpoints(self, job_id: str, *, above: int = 0) -> list[tuple[str, CheckpointManifest]]:
        """Folder and manifest of each committed checkpoint above so many images, oldest first.

        One that lacks a file is none.
        """
        job = JobKeys(job_id)
        keys = await in_thread(self._object_store.list, job.checkpoints)
        present = set(keys)
        later = [folder for folder in job.committed(keys) if job.of_checkpoint(folder)[0] > above]
        manifests = await of_each(partial(self._whole, present=present), later)
        return [(folder, manifest) for folder, manifest in zip(later, manifests, strict=True) if manifest]

    async def checkpoint(
        self, job_id: str, *, images_seen: int | None, attempt: int | None
    ) -> tuple[str, CheckpointManifest] | None:
        """The newest of them: of those at so many images, or of that attempt, if this is said."""
        job = JobKeys(job_id)
        keys = await in_thread(
            self._object_store.list, job.checkpoints if images_seen is None else job.checkpoints_at(images_seen)
        )
        present = set(keys)
        for folder in reversed(job.committed(keys)):
            if attempt in (None, job.of_checkpoint(folder)[1]) and (manifest := await self._whole(folder, present)):
                return folder, manifest
        return None

    async def _whole(self, folder: str, present: Set[str]) -> CheckpointManifest | None:
        """The manifest, if all that it lists is there."""
        manifest = await record_or_none(self._object_store, CheckpointManifest, folder + MANIFEST)
        return manifest if manifest and all(folder + file.name in present for file in manifest.files) else None

    async def samples(self, job_id: str) -> list[int]:
        """Images seen at each sample grid, ascending."""
        keys = JobKeys(job_id)
        return keys.sampled_images(await in_thread(self._object_store.list, keys.samples))

    async def sample(self, job_id: str, images_seen: int) -> bytes | None:
        return await get_or_none(self._object_store, JobKeys(job_id).sample(images_seen))

    async def dataset_of(self, job_id: str) -> str | None:
        """The digest of the image set that a job has imported or learns from; None if it has not come so far."""
        manifest = await self.dataset(job_id)
        return manifest.digest if manifest else None

    async def dataset(self, job_id: str) -> DatasetManifest | None:
        """All that is said of that image set."""
        return await record_or_none(self._object_store, DatasetManifest, JobKeys(job_id).dataset)

    async def dataset_manifest(self, digest: str) -> DatasetManifest | None:
        """What an image set says of itself, if it is there."""
        return await record_or_none(self._object_store, DatasetManifest, dataset_folder(digest) + MANIFEST)

    async def has_dataset(self, digest: str) -> bool:
        try:
            await self.size(dataset_folder(digest) + MANIFEST)
        except FileNotFoundError:
            return False
        return True

    async def files(self, job_id: str) -> list[tuple[str, str | None]]:
        """The names of the files that a job has left, and where anybody can fetch them for an hour.

        A link ends with the credentials that signed it, if those end sooner.
        """
        prefix = JobKeys(job_id).results
        return await in_thread(_linked, self._object_store, prefix)

    async def size(self, key: str) -> int:
        """How many bytes an object has; raises FileNotFoundError."""
        return await in_thread(self._object_store.size, key)

    async def pieces(self, key: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """An object from byte `start` on, piece by piece; raises FileNotFoundError before the first."""
        offset = start
        while piece := await in_thread(self._object_store.part, key, offset, _PIECE_BYTES):
            yield piece
            offset += len(piece)

    async def evaluations(self, job_id: str) -> list[Evaluation]:
        """What was found of a job's checkpoints, by images seen."""
        keys = await in_thread(self._object_store.list, JobKeys(job_id).evaluations)
        found = await of_each(partial(record_or_none, self._object_store, Evaluation), keys)
        return [evaluation for evaluation in found if evaluation]

    async def ping(self) -> None:
        """Return if the store answers."""
        with suppress(FileNotFoundError):
            await in_thread(self._object_store.get, "readiness")


def _linked(object_store: ObjectStore, prefix: str) -> list[tuple[str, str | None]]:
    return [
        (key.removeprefix(prefix), object_store.link(key, seconds=_LINK_SECONDS)) for key in object_store.list(prefix)
    ]


def _readable_rows(object_store: ObjectStore, key: str) -> list[MeasuredRow]:
    """Of one chunk; a row that cannot be read keeps no other from MLflow."""
    found = rows_of(object_store.get(key))
    if num_unreadable := found.count(None):
        log.warning("metrics.rows_unreadable", key=key, rows=num_unreadable)
    return [row for row in found if row]
