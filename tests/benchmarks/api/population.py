"""A table with many jobs in it, as a year of use would leave it; written through the database, not through the API."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Table, insert, text

from service.database import Database, open_database
from service.database.tables import attempts, events, job_labels, jobs
from service.identifiers import new_id
from service.jobs.lifecycle import EventType, JobState
from service.jobs.plans import cost_key
from service.jobs.records import JobRecord, new_attempt
from service.jobs.rows import event_row, job_row
from workers.contract.presets import PRESETS
from workers.contract.records import Progress

TEAMS = 20
SWEEP_JOBS = 40  # jobs that share the label `sweep`
_ENDED = {JobState.SUCCEEDED: 0.88, JobState.FAILED: 0.08, JobState.CANCELLED: 0.04}
_MOVES = (JobState.QUEUED, JobState.STARTING, JobState.RUNNING)
_PIECE = 2000


async def populate(url: str, *, count: int, queued: int, now: datetime) -> list[str]:
    """Write so many jobs down, of which some wait; their ids, oldest first."""
    made = [_job(number, count, is_queued=number >= count - queued, now=now) for number in range(count)]
    async with open_database(url) as database:
        for start in range(0, count, _PIECE):
            await _write(database, made[start : start + _PIECE])
        if database.dialect == "postgresql":
            async with database.writing() as connection:
                await connection.execute(text("ANALYZE"))  # it does so by itself within a minute, in the middle of us
    return [job.id for job in made]


def _job(number: int, count: int, *, is_queued: bool, now: datetime) -> JobRecord:
    chance = random.Random(number)  # noqa: S311 (the same jobs every time)
    preset, spec = list(PRESETS.items())[number % len(PRESETS)]
    at = now - timedelta(days=365) * (count - number) / count
    job = JobRecord(
        id=new_id("job", at=at),
        name=f"{preset}-{number}",
        labels={"team": f"t{number % TEAMS}", "sweep": f"s{number // SWEEP_JOBS}"},
        spec=spec.model_copy(update={"seed": number}).model_dump_json(),
        spec_sha256=f"{number:064x}",
        dataset="",  # known to have none, or the service would go and look for each of them
        cost_key=cost_key(spec),
        state=JobState.QUEUED,
        created_at=at,
        queued_at=at,
        record_due=False,
    )
    if is_queued:
        return replace(job, event_sequence=1)
    [state] = chance.choices(list(_ENDED), weights=list(_ENDED.values()))
    return replace(
        job,
        state=state,
        reason="data_error" if state is JobState.FAILED else None,
        started_at=at + timedelta(minutes=1),
        ended_at=at + timedelta(hours=3),
        attempt=1,
        progress=_progress(spec.duration_images, at=at + timedelta(hours=3)),
        event_sequence=len(_MOVES) + 1,
    )


def _progress(images: int, *, at: datetime) -> Progress:
    return Progress(
        phase="training",
        images_seen=images,
        total_images=images,
        images_per_second=1234.5,
        eta_seconds=0.0,
        losses={"dsm": 0.321, "consistency": 0.0123},
        last_checkpoint_images=images,
        num_workers=2,
        mlflow_run_id="0123456789abcdef0123456789abcdef",
        updated_at=at,
        device="NVIDIA H100 80GB HBM3",
        peak_memory_bytes=42 * 2**30,
    )


async def _write(database: Database, made: Sequence[JobRecord]) -> None:
    rows: dict[Table, list[dict[str, Any]]] = {
        jobs: [job_row(job) for job in made],
        job_labels: [
            {"job_id": job.id, "key": key, "value": value} for job in made for key, value in job.labels.items()
        ],
        attempts: [
            asdict(replace(new_attempt(job.id, 1, service="benchmark", at=job.created_at), ended_at=job.ended_at))
            for job in made
            if job.attempt
        ],
        events: [row for job in made for row in _events(job)],
    }
    async with database.writing() as connection:
        for table, values in rows.items():
            await connection.execute(insert(table), values)


def _events(job: JobRecord) -> Iterator[dict[str, Any]]:
    states = [*_MOVES, job.state] if job.attempt else [job.state]
    for sequence, state in enumerate(states, start=1):
        then = replace(job, state=state)
        type_: EventType = "created" if sequence == 1 else "state_changed"
        yield event_row(
            then, sequence=sequence, type=type_, actor=None, at=job.created_at + timedelta(seconds=sequence)
        )
