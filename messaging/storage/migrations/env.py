"""Alembic's entry: runs the revisions on the connection it was handed."""

from alembic import context

from messaging.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
