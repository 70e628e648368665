"""Jobs that do something else than train."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kind", sa.String, nullable=False, server_default="train"))
