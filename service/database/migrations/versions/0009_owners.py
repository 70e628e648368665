"""Who submitted each job; of those of before it is not known."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0009", "0008"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("owner", sa.String))
    op.add_column("jobs", sa.Column("owner_name", sa.String))
    op.create_index("jobs_by_owner", "jobs", ["project", "owner", "id"])
