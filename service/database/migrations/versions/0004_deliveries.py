"""What is due to each webhook, and what waits for the event before it, without going through all that waits."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0004", "0003"

_WAITING = sa.text("due_at IS NOT NULL")
_UNTRIED = sa.text("due_at IS NOT NULL AND tries = 0")


def upgrade() -> None:
    for name, columns, where in (
        ("deliveries_waiting", ["webhook_id", "due_at", "id"], _WAITING),
        ("deliveries_untried", ["webhook_id", "job_id", "sequence"], _UNTRIED),
    ):
        op.create_index(name, "deliveries", columns, sqlite_where=where, postgresql_where=where)
