"""The tables. Raw rows stay below the stores; everything above sees values."""

from datetime import UTC, datetime

from sqlalchemy import Boolean, Column, Dialect, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.types import TypeDecorator


class Instant(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC text so that it sorts and can be read in the shell."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return value.astimezone(UTC).isoformat(timespec="microseconds") if value else None

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return datetime.fromisoformat(value) if value else None


metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String),
    Column("state", String, nullable=False),
    Column("reason", String),
    Column("message", Text),
    Column("spec", Text, nullable=False),
    Column("spec_sha256", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("attempt", Integer, nullable=False),
    Column("fruitless_attempts", Integer, nullable=False),
    Column("progress", Text),
    Column("backend_reachable", Boolean),
    Column("backend_message", Text),
    Column("backend_since", Instant),
    Column("mlflow_run_id", String),
    Column("mlflow_experiment_id", String),
    Column("mlflow_due_until", Instant),  # its run still has to be given a final status; null = nothing to do
    Index("jobs_by_state", "state", "id"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("submission_id", String, nullable=False, unique=True),
    Column("nonce", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("from_images", Integer, nullable=False),
    Column("submitted_at", Instant),
    Column("ended_at", Instant),
    Column("log_due_until", Instant),  # its log still has to be copied; null = nothing to do
)

events = Table(
    "events",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("type", String, nullable=False),
    Column("state", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("reason", String),
    Column("message", Text),
    Column("created_at", Instant, nullable=False),
)
