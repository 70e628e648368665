"""The queue in its order, and that of each project, without sorting."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"

_TURN = (sa.text("priority DESC"), "queued_at", "id")
_QUEUED = sa.text("state = 'queued'")


def upgrade() -> None:
    for name, columns in (("jobs_queue", _TURN), ("jobs_queue_by_project", ("project", "accelerator", *_TURN))):
        op.create_index(name, "jobs", ["state", *columns], sqlite_where=_QUEUED, postgresql_where=_QUEUED)
