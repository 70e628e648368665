"""The tables. Raw rows stay below the stores; everything above sees values.

A change here comes with a migration in `migrations/versions`; a test compares the two.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
    true,
)
from sqlalchemy.types import TypeDecorator


class Instant(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC text so that it sorts and can be read in the shell."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return value.astimezone(UTC).isoformat(timespec="microseconds") if value else None

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return datetime.fromisoformat(value) if value else None


def _partial_index(name: str, *columns: str | ColumnElement[Any], where: str) -> Index:
    """A partial index, of the few rows for which `where` holds: the loops ask for them all the time."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False, server_default="default"),
    Column("name", String),
    Column("labels", Text, nullable=False, server_default="{}"),  # JSON; job_labels has them for filters
    Column("priority", Integer, nullable=False, server_default="1"),
    Column("max_runtime_seconds", Float),
    Column("kind", String, nullable=False, server_default="train"),
    Column("spec", Text, nullable=False),
    Column("spec_sha256", String, nullable=False),
    Column("owner", String),  # the principal who submitted it, or the training it follows; null = not known
    Column("owner_name", String),  # for people
    Column("cost_key", String),  # what decides the speed of a step: equal for jobs that cost the same
    Column("accelerator", String, nullable=False, server_default="cpu"),
    Column("workers", Integer, nullable=False, server_default="1"),
    Column("parent_job_id", String),
    Column("parent_images", BigInteger),
    Column("state", String, nullable=False),
    Column("reason", String),
    Column("message", Text),
    Column("created_at", Instant, nullable=False),
    Column("queued_at", Instant),
    Column("not_before", Instant),  # backing off until then
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("archived_at", Instant),
    Column("deleted_at", Instant),
    Column("attempt", Integer, nullable=False),
    Column(
        "intent", String
    ),  # why it is to leave the engine: cancel, pause, preempt, expire, restart; null = it is not
    Column("stop_by", Instant),  # after that it is taken from the engine by force
    Column("unclean", Boolean, nullable=False, server_default=false()),
    Column("platform_failures", Integer, nullable=False, server_default="0"),
    Column("user_failures", Integer, nullable=False, server_default="0"),
    Column("failure_signature", String),
    Column("progress", Text),
    Column("heard_at", Instant),  # when its heartbeat last changed, by our clock
    Column("advanced_at", Instant),  # when it last got on, or began again, by our clock
    Column("conditions", Text, nullable=False, server_default="{}"),
    Column("mlflow_run_id", String),
    Column("mlflow_experiment_id", String),
    Column("mlflow_due_until", Instant),  # its run still has to be given a final status; null = nothing to do
    Column("record_due", Boolean, nullable=False, server_default=true()),  # its copy in the object store is out of date
    Column("purge_due", Text),  # JSON list of what is to be removed from the object store
    Column("evaluations", Text),  # JSON of what follows its checkpoints; null = nothing
    Column("evaluated_images", BigInteger, nullable=False, server_default="0"),  # the last that was submitted
    Column("evaluations_due", Boolean, nullable=False, server_default=false()),  # there may be more to come
    Column("control_job_id", String),  # its twin without a consistency term; null = none was asked for
    Column("comparison_due", Boolean, nullable=False, server_default=false()),  # the two are still to be compared
    Column("dataset", String),  # digest of the image set it imports or learns from; null = not known yet, "" = of none
    Column("event_sequence", Integer, nullable=False, server_default="0"),
    Column("lease_token", String),
    Column("lease_until", Instant),
    Index("jobs_by_state", "state", "id"),
    Index("jobs_by_project", "project", "id"),
    Index("jobs_by_kind", "project", "kind", "id"),
    Index("jobs_by_owner", "project", "owner", "id"),
    Index("jobs_by_kind_of_all", "kind", "id"),
    Index("jobs_by_owner_of_all", "owner", "id"),
    Index("jobs_by_cost", "cost_key", "ended_at"),
    Index("jobs_by_record_due", "record_due"),
    Index("jobs_by_project_and_state", "project", "state", "id"),
    _partial_index("jobs_by_name", "project", "name", "id", where="name IS NOT NULL"),
    _partial_index("jobs_by_name_of_all", "name", "id", where="name IS NOT NULL"),
    _partial_index("jobs_archived", "project", "id", where="archived_at IS NOT NULL"),
    _partial_index("jobs_archived_of_all", "id", where="archived_at IS NOT NULL"),
    _partial_index("jobs_by_lease", "lease_token", where="lease_token IS NOT NULL"),
    _partial_index("jobs_by_mlflow_due", "id", where="mlflow_due_until IS NOT NULL"),
    _partial_index("jobs_by_evaluations_due", "id", where="evaluations_due"),
    _partial_index("jobs_by_comparison_due", "id", where="comparison_due"),
    _partial_index("jobs_by_purge_due", "id", where="purge_due IS NOT NULL"),
    _partial_index("jobs_by_dataset", "project", "dataset", "id", where="dataset > ''"),
    _partial_index("jobs_by_digest", "dataset", where="dataset > ''"),
    _partial_index("jobs_by_dataset_due", "id", where="dataset IS NULL AND kind IN ('train', 'import')"),
)

_TURN = (jobs.c.priority.desc(), "queued_at", "id")  # the state is before it, or SQLite takes jobs_by_state and sorts
_partial_index("jobs_queue", "state", *_TURN, where="state = 'queued'")
_partial_index("jobs_queue_by_project", "state", "project", "accelerator", *_TURN, "workers", where="state = 'queued'")

job_labels = Table(
    "job_labels",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
    Index("job_labels_by_value", "key", "value", "job_id"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("submission_id", String, nullable=False, unique=True),
    Column("nonce", String, nullable=False),  # empty in an attempt that was found in the object store only
    Column("session", String),  # the engine's, when it was submitted; in another one it is certainly over
    Column("created_at", Instant, nullable=False),
    Column("from_images", BigInteger, nullable=False),
    Column("submitted_at", Instant),
    Column("stop_sent_at", Instant),  # when the engine first heard that it is to leave
    Column("ended_at", Instant),
    Column("reason", String),
    Column("message", Text),
    Column("log_due_until", Instant),  # its log still has to be copied; null = nothing to do
    Index("attempts_by_end", "ended_at"),
    _partial_index("attempts_by_log_due", "job_id", where="log_due_until IS NOT NULL"),
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
    Column("actor", String),  # who asked for it; null = the service itself
    Column("created_at", Instant, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("name", String, primary_key=True),
    Column("max_workers", Integer),
    Column("max_jobs", Integer),
    Column("max_priority", String, nullable=False, server_default="high"),
    Column("created_at", Instant, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", ForeignKey("projects.name"), nullable=False),
    Column("name", String),
    Column("prefix", String, nullable=False),
    Column("sha256", String, nullable=False, unique=True),
    Column("scopes", Text, nullable=False),  # JSON list
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("last_used_at", Instant),
)

audit = Table(
    "audit",
    metadata,
    Column("id", String, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", String, nullable=False),
    Column("project", String, nullable=False),
    Column("action", String, nullable=False),
    Column("target", String),
    Column("method", String),
    Column("path", String),
    Column("status", Integer),
    Column("request_id", String),
    Column("client", String),
    Column("before_sha256", String),
    Column("after_sha256", String),
    Index("audit_by_project", "project", "id"),
    Index("audit_by_actor", "actor", "id"),
    Index("audit_by_target", "target", "id"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("request_sha256", String, nullable=False),  # of method, path, query, principal and body
    Column("reserved_ulid", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("in_flight_until", Instant),  # null = answered
    Column("status", Integer),
    Column("headers", Text),
    Column("body", Text),
    Index("idempotency_keys_by_age", "created_at"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("url", String, nullable=False),
    Column("event_types", Text, nullable=False),  # JSON list; empty = all
    Column("secret", String, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("webhooks_by_project", "project", "id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String, primary_key=True),
    Column("webhook_id", ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("job_id", String, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant),  # null = delivered or given up
    Column("tries", Integer, nullable=False),
    Column("delivered_at", Instant),
    Column("last_status", Integer),
    Column("last_error", Text),
    Index("deliveries_by_due", "due_at"),  # replicas of the release before ask by it; to be dropped
    Index("deliveries_by_webhook", "webhook_id", "id"),
    _partial_index("deliveries_waiting", "webhook_id", "due_at", "id", where="due_at IS NOT NULL"),
    _partial_index("deliveries_untried", "webhook_id", "job_id", "sequence", where="due_at IS NOT NULL AND tries = 0"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("token", String, nullable=False),
    Column("until", Instant, nullable=False),
)

installation = Table(
    "installation",
    metadata,
    Column("id", String, primary_key=True),  # one row: tells this installation's submissions from others on one engine
)
