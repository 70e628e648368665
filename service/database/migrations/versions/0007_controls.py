"""Trainings with a control, and the comparison that follows the two."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0007", "0006"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("control_job_id", sa.String))
    op.add_column("jobs", sa.Column("comparison_due", sa.Boolean, nullable=False, server_default=sa.false()))
    due = sa.text("comparison_due")
    op.create_index("jobs_by_comparison_due", "jobs", ["id"], sqlite_where=due, postgresql_where=due)
