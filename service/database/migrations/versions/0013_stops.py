"""When the engine first heard that an attempt is to leave: its time for a last checkpoint begins there."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0013", "0012"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("stop_sent_at", sa.String(32)))
