"""The service's own copy of each job in the object store, and the way back from there into a database that lacks it.

The copy follows the database by about a second, so the newest changes may be missing from it. What the store knows
better counts: an attempt that was claimed exists, whatever the copy says.
"""

import asyncio
import json
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import MISSING, asdict, fields, replace
from datetime import datetime
from typing import Any

import structlog
from pydantic import TypeAdapter

from service.jobs.installation import check_same
from service.jobs.lifecycle import JobState
from service.jobs.objects import JobObjects
from service.jobs.records import AttemptRecord, JobRecord, moved, submission_id
from service.jobs.rows import job_of, job_row
from service.jobs.store import JobStore
from service.storage import some_at_a_time

log = structlog.get_logger()


_ATTEMPTS = TypeAdapter(list[AttemptRecord])
_NEEDED = {field.name for field in fields(JobRecord) if field.default is MISSING and field.default_factory is MISSING}
_BLANK = JobRecord(id="", spec="", spec_sha256="", state=JobState.QUEUED, created_at=datetime.max)  # noqa: DTZ901
_ABSENT = {name: value for name, value in job_row(_BLANK).items() if name not in _NEEDED}  # in a copy of before it was


def record_of(job: JobRecord, attempts: Sequence[AttemptRecord]) -> bytes:
    """The copy of a job, as JSON."""
    document = {"job": job_row(job), "attempts": [asdict(attempt) for attempt in attempts]}
    return json.dumps(document, default=datetime.isoformat).encode()


def read_record(record: bytes) -> tuple[JobRecord, list[AttemptRecord]]:
    """The job and its attempts of a copy.

    Raises:
        ValueError: it is not one.
    """
    try:
        document = json.loads(record)
        job = job_of(_ABSENT | _with_instants(document["job"]))
        return job, _ATTEMPTS.validate_python(document["attempts"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a job's record: {error!r}") from error


async def rebuild(store: JobStore, objects: JobObjects, *, now: datetime) -> tuple[int, list[str]]:
    """Write down what the object store knows and the database does not; of how many jobs, and which cannot be read.

    That is jobs that it lacks, and, after an older database was put back, what has become since of those that it has.
    No replica may be running: those that had jobs when the database was copied are gone.

    Raises:
        StoreOfAnotherInstallation: the database has jobs, and they are not those of this store.
    """
    there, known = await objects.known_installation(), await store.installation()
    if known and await store.has_jobs():
        check_same(known, there)
    elif there:
        await store.adopt_installation(there)
    await store.release_all()
    restored, unreadable = 0, list[str]()

    async def restore(job_id: str) -> bool:
        try:
            return await _restored(job_id, store, objects, now=now)
        except ValueError as error:
            log.warning("job.unreadable", job_id=job_id, error=str(error))
            unreadable.append(job_id)
            return False

    for some in some_at_a_time(await objects.job_ids()):
        restored += await _sum_of(map(restore, some))
    return restored, sorted(unreadable)


async def _sum_of(each: Iterable[Coroutine[Any, Any, bool]]) -> int:
    """How many came true; what failed is raised when all are over, so that none goes on behind it."""
    done = await asyncio.gather(*each, return_exceptions=True)
    if failed := next((one for one in done if isinstance(one, BaseException)), None):
        raise failed
    return sum(one is True for one in done)


async def _restored(job_id: str, store: JobStore, objects: JobObjects, *, now: datetime) -> bool:
    known, record = await store.find(job_id), await objects.record(job_id)
    if record is None:
        return False  # it was refused, or its client had not been told of it yet
    job, attempts = read_record(record)
    if known and known.event_sequence >= job.event_sequence:
        job, attempts = known, await store.attempts(job_id)
    latest, attempts = await _brought_up_to_date(job, attempts, objects=objects, now=now)
    return latest != known and await store.restore(latest, attempts, known=known, at=now)


async def _brought_up_to_date(
    job: JobRecord, attempts: list[AttemptRecord], *, objects: JobObjects, now: datetime
) -> tuple[JobRecord, list[AttemptRecord]]:
    """A claimed attempt that the copy does not have is taken to run: the reconciler finds out how it stands."""
    claimed = await objects.newest_claim(job.id)
    if claimed <= job.attempt or await objects.is_ours(job.id, claimed):
        return job, attempts
    found = AttemptRecord(
        job_id=job.id,
        number=claimed,
        submission_id=submission_id(job.id, claimed),
        nonce="",
        created_at=now,
        submitted_at=now,
    )
    before = [replace(one, ended_at=one.ended_at or now) for one in attempts]
    job = moved(job, to=JobState.STARTING, at=now, reason="rebuilt", message=None)
    job = replace(job, attempt=claimed, started_at=now, ended_at=None, heard_at=None, intent=None, stop_by=None)
    return job, [*before, found]


def _with_instants(row: dict[str, Any]) -> dict[str, Any]:
    """Times have names that say so."""
    is_time = ("_at", "_until", "_before", "_by")
    return {
        name: datetime.fromisoformat(value) if isinstance(value, str) and name.endswith(is_time) else value
        for name, value in row.items()
    }
