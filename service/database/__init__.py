"""SQLite, opened by one process at a time, or Postgres, shared by several."""

from service.database.engine import Database, open_database

__all__ = ["Database", "open_database"]
