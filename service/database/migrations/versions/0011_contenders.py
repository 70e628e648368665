"""How large the jobs in the queue of each project are, in its index: which can never start is asked at every look."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0011", "0010"

_COLUMNS = ("state", "project", "accelerator", sa.text("priority DESC"), "queued_at", "id", "workers")
_QUEUED = sa.text("state = 'queued'")


def upgrade() -> None:
    op.drop_index("jobs_queue_by_project", "jobs")
    op.create_index("jobs_queue_by_project", "jobs", _COLUMNS, sqlite_where=_QUEUED, postgresql_where=_QUEUED)
