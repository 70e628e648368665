"""Which image set each job imports or learns from, found out for those of before as for new ones."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0006", "0005"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("dataset", sa.String))
    for name, columns, few in (
        ("jobs_by_dataset", ["project", "dataset", "id"], sa.text("dataset > ''")),
        ("jobs_by_dataset_due", ["id"], sa.text("dataset IS NULL AND kind IN ('train', 'import')")),
    ):
        op.create_index(name, "jobs", columns, sqlite_where=few, postgresql_where=few)
