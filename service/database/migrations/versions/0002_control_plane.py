"""Projects, keys, audit, labels, leases, webhooks; intent, budgets and conditions of jobs."""

import json
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("target", sa.String),
        sa.Column("method", sa.String),
        sa.Column("path", sa.String),
        sa.Column("status", sa.Integer),
        sa.Column("request_id", sa.String),
        sa.Column("client", sa.String),
        sa.Column("before_sha256", sa.String),
        sa.Column("after_sha256", sa.String),
    )
    op.create_index("audit_by_project", "audit", ["project", "id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("request_sha256", sa.String, nullable=False),
        sa.Column("reserved_ulid", sa.String, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("in_flight_until", sa.String(32)),
        sa.Column("status", sa.Integer),
        sa.Column("headers", sa.Text),
        sa.Column("body", sa.Text),
    )
    op.create_index("idempotency_keys_by_age", "idempotency_keys", ["created_at"])
    op.create_table(
        "installation",
        sa.Column("id", sa.String, primary_key=True),
    )
    op.add_column("jobs", sa.Column("project", sa.String, nullable=False, server_default="default"))
    op.add_column("jobs", sa.Column("labels", sa.Text, nullable=False, server_default="{}"))
    op.add_column("jobs", sa.Column("priority", sa.Integer, nullable=False, server_default="1"))
    op.add_column("jobs", sa.Column("max_runtime_seconds", sa.Float))
    op.add_column("jobs", sa.Column("cost_key", sa.String))
    op.add_column("jobs", sa.Column("accelerator", sa.String, nullable=False, server_default="cpu"))
    op.add_column("jobs", sa.Column("workers", sa.Integer, nullable=False, server_default="1"))
    op.add_column("jobs", sa.Column("parent_job_id", sa.String))
    op.add_column("jobs", sa.Column("parent_images", sa.BigInteger))
    op.add_column("jobs", sa.Column("queued_at", sa.String(32)))
    op.add_column("jobs", sa.Column("not_before", sa.String(32)))
    op.add_column("jobs", sa.Column("archived_at", sa.String(32)))
    op.add_column("jobs", sa.Column("deleted_at", sa.String(32)))
    op.add_column("jobs", sa.Column("intent", sa.String))
    op.add_column("jobs", sa.Column("stop_by", sa.String(32)))
    op.add_column("jobs", sa.Column("unclean", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("platform_failures", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("user_failures", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("failure_signature", sa.String))
    op.add_column("jobs", sa.Column("heard_at", sa.String(32)))
    op.add_column("jobs", sa.Column("advanced_at", sa.String(32)))
    op.add_column("jobs", sa.Column("conditions", sa.Text, nullable=False, server_default="{}"))
    op.add_column("jobs", sa.Column("record_due", sa.Boolean, nullable=False, server_default=sa.true()))
    op.add_column("jobs", sa.Column("purge_due", sa.Text))
    op.add_column("jobs", sa.Column("event_sequence", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("lease_token", sa.String))
    op.add_column("jobs", sa.Column("lease_until", sa.String(32)))
    op.create_index("jobs_by_cost", "jobs", ["cost_key", "ended_at"])
    op.create_index("jobs_by_project", "jobs", ["project", "id"])
    op.create_index("jobs_by_project_and_state", "jobs", ["project", "state", "id"])
    _create_index_of_few("jobs_archived", "jobs", ["project", "id"], where="archived_at IS NOT NULL")
    _create_index_of_few("jobs_by_lease", "jobs", ["lease_token"], where="lease_token IS NOT NULL")
    _create_index_of_few("jobs_by_mlflow_due", "jobs", ["id"], where="mlflow_due_until IS NOT NULL")
    _create_index_of_few("jobs_by_purge_due", "jobs", ["id"], where="purge_due IS NOT NULL")
    op.create_index("jobs_by_record_due", "jobs", ["record_due"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("token", sa.String, nullable=False),
        sa.Column("until", sa.String(32), nullable=False),
    )
    op.create_table(
        "projects",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("max_workers", sa.Integer),
        sa.Column("max_jobs", sa.Integer),
        sa.Column("created_at", sa.String(32), nullable=False),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("event_types", sa.Text, nullable=False),
        sa.Column("secret", sa.String, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
    )
    op.create_index("webhooks_by_project", "webhooks", ["project", "id"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("project", sa.String, sa.ForeignKey("projects.name"), nullable=False),
        sa.Column("name", sa.String),
        sa.Column("prefix", sa.String, nullable=False),
        sa.Column("sha256", sa.String, nullable=False, unique=True),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.String(32)),
        sa.Column("revoked_at", sa.String(32)),
        sa.Column("last_used_at", sa.String(32)),
    )
    op.add_column("attempts", sa.Column("session", sa.String))
    op.add_column("attempts", sa.Column("reason", sa.String))
    op.add_column("attempts", sa.Column("message", sa.Text))
    _create_index_of_few("attempts_by_log_due", "attempts", ["job_id"], where="log_due_until IS NOT NULL")
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("webhook_id", sa.String, sa.ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("due_at", sa.String(32)),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("delivered_at", sa.String(32)),
        sa.Column("last_status", sa.Integer),
        sa.Column("last_error", sa.Text),
    )
    op.create_index("deliveries_by_due", "deliveries", ["due_at"])
    op.create_index("deliveries_by_webhook", "deliveries", ["webhook_id", "id"])
    op.add_column("events", sa.Column("actor", sa.String))
    op.create_table(
        "job_labels",
        sa.Column("job_id", sa.String, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )
    op.create_index("job_labels_by_value", "job_labels", ["key", "value", "job_id"])
    for name in ("fruitless_attempts", "backend_reachable", "backend_message", "backend_since"):
        op.drop_column("jobs", name)
    if op.get_bind().dialect.name == "postgresql":  # SQLite's integers are all wide
        op.alter_column("attempts", "from_images", type_=sa.BigInteger)
    op.execute("UPDATE jobs SET queued_at = created_at")
    _fill_from_documents()
    _keep_leaving()
    op.execute(
        "UPDATE jobs SET event_sequence = COALESCE((SELECT max(sequence) FROM events WHERE events.job_id = jobs.id), 0)"
    )


def _create_index_of_few(name: str, table: str, columns: list[str], *, where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _fill_from_documents() -> None:
    """What a job asks of the engine was in its document only."""
    connection, jobs = op.get_bind(), sa.table("jobs", *map(sa.column, ("id", "spec", "accelerator", "workers")))
    for row in connection.execute(sa.select(jobs.c.id, jobs.c.spec)).all():
        compute = json.loads(row.spec)["compute"]
        asked = {"accelerator": compute["accelerator"], "workers": compute["workers"]}
        connection.execute(sa.update(jobs).where(jobs.c.id == row.id).values(asked))


def _keep_leaving() -> None:
    """A cancellation was a state only. It has had its grace, or most of it; now it also ends."""
    patience = (datetime.now(UTC) + timedelta(minutes=2)).isoformat(timespec="microseconds")
    jobs = sa.table("jobs", *map(sa.column, ("state", "intent", "stop_by")))
    op.execute(sa.update(jobs).where(jobs.c.state == "cancelling").values(intent="cancel", stop_by=patience))
