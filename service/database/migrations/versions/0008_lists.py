"""What lists of jobs and of the audit are narrowed down to without going through all of them."""

from alembic import op

revision, down_revision = "0008", "0007"


def upgrade() -> None:
    op.create_index("audit_by_actor", "audit", ["actor", "id"])
    op.create_index("audit_by_target", "audit", ["target", "id"])
    # Last: from here to the end other replicas cannot write to it.
    op.create_index("jobs_by_kind", "jobs", ["project", "kind", "id"])
