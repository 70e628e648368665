"""Bringing the tables up to date: Alembic's migrations, run when a database is opened.

Releases overlap while replicas are replaced, so a migration only adds (expand); what nobody reads any more is dropped
by a later release (contract).
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

_FIRST = "0001"
_LOCK = 727_001  # any number that only we take


def upgrade(connection: Connection) -> None:
    """Run what is missing, in a transaction that writes; of several replicas one does it, and the others wait."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    unversioned = MigrationContext.configure(connection).get_current_revision() is None
    if unversioned and inspect(connection).has_table("jobs"):  # made before there were migrations
        command.stamp(config, _FIRST)
    command.upgrade(config, "head")
