"""Alembic's way in: migrations run on the connection that `service.database.schema` has opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
context.run_migrations()
