"""SQLite, opened by one process at a time, or Postgres, shared by several."""

from service.database.engine import Database, free_leases, open_database

__all__ = ["Database", "free_leases", "open_database"]
