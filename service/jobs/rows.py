"""Between values and rows of the tables."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from service.jobs.lifecycle import EventType, Intent, JobState
from service.jobs.records import Condition, EventRecord, JobRecord
from workers.contract.document import read_leniently
from workers.contract.records import Progress

JOB_FIELDS = tuple(field.name for field in fields(JobRecord))


def job_row(job: JobRecord) -> dict[str, Any]:
    """A row of `jobs`, but for the lease."""
    return _columns(job, JOB_FIELDS)


def changed_row(job: JobRecord, changed: JobRecord) -> dict[str, Any]:
    """What of a row is not as it was."""
    return _columns(changed, [name for name in JOB_FIELDS if getattr(changed, name) != getattr(job, name)])


def _columns(job: JobRecord, names: Sequence[str]) -> dict[str, Any]:
    return {name: _AS_TEXT[name](getattr(job, name)) if name in _AS_TEXT else getattr(job, name) for name in names}


def _conditions_text(conditions: Mapping[str, Condition]) -> str:
    return json.dumps(
        {
            kind: {"status": one.status, "since": one.since.isoformat(), "message": one.message}
            for kind, one in conditions.items()
        }
    )


_AS_TEXT: dict[str, Callable[[Any], str | None]] = {
    "labels": lambda labels: json.dumps(dict(labels)),
    "progress": lambda progress: progress.model_dump_json() if progress else None,
    "conditions": _conditions_text,
    "purge_due": lambda parts: json.dumps(parts) if parts else None,
}


def job_of(row: RowMapping | dict[str, Any]) -> JobRecord:
    """The job of a row."""
    values = {name: row[name] for name in JOB_FIELDS}
    conditions = {
        kind: Condition(status=one["status"], since=datetime.fromisoformat(one["since"]), message=one["message"])
        for kind, one in _mapping(values["conditions"]).items()
    }
    values |= {
        "state": JobState(values["state"]),
        "intent": Intent(values["intent"]) if values["intent"] else None,
        "labels": _mapping(values["labels"]),
        "progress": read_leniently(Progress, values["progress"]) if values["progress"] else None,
        "conditions": conditions,
        "purge_due": tuple(json.loads(values["purge_due"])) if values["purge_due"] else (),
    }
    return JobRecord(**values)


def _mapping(text: str) -> dict[str, Any]:
    """Most are empty, and a page of jobs has hundreds."""
    return json.loads(text) if text != "{}" else {}


def event_of(row: RowMapping) -> EventRecord:
    return EventRecord(**{**row, "state": JobState(row["state"])})


def event_row(
    job: JobRecord,
    *,
    sequence: int,
    type: EventType,  # noqa: A002
    actor: str | None,
    at: datetime,
) -> dict[str, Any]:
    """The event that tells of the job as it is now."""
    return {
        "job_id": job.id,
        "sequence": sequence,
        "type": type,
        "state": job.state,
        "attempt": job.attempt,
        "reason": job.reason,
        "message": job.message,
        "actor": actor,
        "created_at": at,
    }
