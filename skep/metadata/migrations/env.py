"""Run by alembic for each command. `config.attributes["connection"]` is the connection, in a transaction."""

from __future__ import annotations

from alembic import context

from skep.metadata import tables

context.configure(connection=context.config.attributes["connection"], target_metadata=tables.schema)
context.run_migrations()
