"""Which jobs a client wants to see, as a query that takes an index, however many others there are."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, exists, func

from service.database.tables import job_labels, jobs
from service.identifiers import first_id, range_of
from service.jobs.lifecycle import JobState

_RESERVED = timedelta(days=8)  # an id taken for an Idempotency-Key is used within the seven days that it is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which jobs a client wants to see."""

    project: str | None  # None = of all
    owner: str | None = None
    name: str | None = None
    id_prefix: str = "job_"
    state: JobState | None = None
    kind: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    created_after: datetime | None = None
    archived: bool = False
    before: str | None = None  # ids below this one


def listed(query: Select[Any], filters: Filters, *, dialect: str) -> Select[Any]:
    """Of a query of jobs those that are wanted, newest first."""
    query = query.where(jobs.c.deleted_at.is_(None))
    query = query.where(jobs.c.archived_at.is_not(None) if filters.archived else jobs.c.archived_at.is_(None))
    query = query.where(*_equalities(filters, dialect=dialect))
    if filters.created_after:
        made_after = filters.created_after - _RESERVED  # the id may be older than the job
        query = query.where(jobs.c.created_at > filters.created_after, jobs.c.id > first_id("job", at=made_after))
    place: ColumnElement[str] = jobs.c.id
    if filters.labels:
        # By what the first label has, or SQLite would go through all jobs, in search of those that have them.
        place = job_labels.c.job_id
        query = query.join(job_labels, place == jobs.c.id).where(_has_label(job_labels, *filters.labels[0]))
    for key, value in filters.labels[1:]:
        other = job_labels.alias()
        query = query.where(exists().where(other.c.job_id == place, _has_label(other, key, value)))
    if beginning := filters.id_prefix.removeprefix("job_"):
        query = query.where(place.between(*range_of("job", beginning=beginning)))
    if filters.before:
        query = query.where(place < filters.before)
    return query.order_by(place.desc())


def _equalities(filters: Filters, *, dialect: str) -> Iterator[ColumnElement[bool]]:
    """What each column is to be.

    SQLite does not know how many jobs an index leads to: it would go through all of a kind in search of the few that
    run, or were archived. So it is not shown that it could.
    """
    hidden = set[str]()
    if dialect == "sqlite" and (filters.archived or (filters.state and not filters.state.is_terminal)):
        hidden = {"owner", "kind", "state"} if filters.archived else {"owner", "kind"}
    for name in ("project", "owner", "name", "state", "kind"):
        wanted = getattr(filters, name)
        if wanted is not None:
            yield (func.coalesce(jobs.c[name], "") if name in hidden else jobs.c[name]) == wanted


def _has_label(labels: FromClause, key: str, value: str) -> ColumnElement[bool]:
    return (labels.c.key == key) & (labels.c.value == value)
