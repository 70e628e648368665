"""The highest class of priority that the jobs of each project may have: any, until it is set."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0010", "0009"


def upgrade() -> None:
    op.add_column("projects", sa.Column("max_priority", sa.String, nullable=False, server_default="high"))
