"""Jobs, attempts and events."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("message", sa.Text),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("spec_sha256", sa.String, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("started_at", sa.String(32)),
        sa.Column("ended_at", sa.String(32)),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("fruitless_attempts", sa.Integer, nullable=False),
        sa.Column("progress", sa.Text),
        sa.Column("backend_reachable", sa.Boolean),
        sa.Column("backend_message", sa.Text),
        sa.Column("backend_since", sa.String(32)),
        sa.Column("mlflow_run_id", sa.String),
        sa.Column("mlflow_experiment_id", sa.String),
        sa.Column("mlflow_due_until", sa.String(32)),
    )
    op.create_index("jobs_by_state", "jobs", ["state", "id"])
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.String, sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("submission_id", sa.String, nullable=False, unique=True),
        sa.Column("nonce", sa.String, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("from_images", sa.Integer, nullable=False),
        sa.Column("submitted_at", sa.String(32)),
        sa.Column("ended_at", sa.String(32)),
        sa.Column("log_due_until", sa.String(32)),
    )
    op.create_table(
        "events",
        sa.Column("job_id", sa.String, sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("message", sa.Text),
        sa.Column("created_at", sa.String(32), nullable=False),
    )
