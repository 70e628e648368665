"""Bringing the tables up to date: Alembic's migrations, run when a database is opened.

Releases overlap while replicas are replaced, so a migration only adds (expand); what nobody reads any more is dropped
by a later release (contract). So a release works with the tables of a later one, too: it may be gone back to, and while
replicas are replaced one of the old ones may start again.
"""

from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

log = structlog.get_logger()

_FIRST = "0001"
_LOCK = 727_001  # any number that only we take
_LOCK_SECONDS = 5


def upgrade(connection: Connection) -> None:
    """Run what is missing, in a transaction that writes; of several replicas one does it, and the others wait."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        # Whoever comes to a table later waits behind a migration that waits for it, as behind pg_dump: better it fails.
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None and inspect(connection).has_table("jobs"):  # made before there were migrations
        command.stamp(config, _FIRST)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is None or revision in known:
        command.upgrade(config, "head")
    else:
        log.warning("database.newer", revision=revision)
