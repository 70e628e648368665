"""Lists of all projects, image sets by their digest, and attempts by their end: each is answered by an index."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0012", "0011"


def upgrade() -> None:
    op.create_index("jobs_by_kind_of_all", "jobs", ["kind", "id"])
    op.create_index("jobs_by_owner_of_all", "jobs", ["owner", "id"])
    op.create_index("attempts_by_end", "attempts", ["ended_at"])
    _create_index_of_few("jobs_archived_of_all", "id", where="archived_at IS NOT NULL")
    _create_index_of_few("jobs_by_digest", "dataset", where="dataset > ''")


def _create_index_of_few(name: str, column: str, *, where: str) -> None:
    op.create_index(name, "jobs", [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))
