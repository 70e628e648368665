"""SQLite, opened by one process at a time."""

from service.database.engine import Database, open_database

__all__ = ["Database", "open_database"]
