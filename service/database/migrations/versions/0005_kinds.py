"""Jobs that do something else than train, and evaluations that follow those that do."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kind", sa.String, nullable=False, server_default="train"))
    op.add_column("jobs", sa.Column("evaluations", sa.Text))
    op.add_column("jobs", sa.Column("evaluated_images", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("evaluations_due", sa.Boolean, nullable=False, server_default=sa.false()))
    due = sa.text("evaluations_due")
    op.create_index("jobs_by_evaluations_due", "jobs", ["id"], sqlite_where=due, postgresql_where=due)
