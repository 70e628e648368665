"""Alembic's migrations, one file per change of the tables, in order."""
