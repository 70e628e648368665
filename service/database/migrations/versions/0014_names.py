"""Jobs are found by their name by an index."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0014", "0013"

_NAMED = "name IS NOT NULL"


def upgrade() -> None:
    _create_index("jobs_by_name", "project", "name", "id")
    _create_index("jobs_by_name_of_all", "name", "id")


def _create_index(name: str, *columns: str) -> None:
    op.create_index(name, "jobs", list(columns), sqlite_where=sa.text(_NAMED), postgresql_where=sa.text(_NAMED))
