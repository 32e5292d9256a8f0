"""What Alembic runs: it works on the connection that `migrate` has, in its transaction."""

from alembic import context

from nnguard._selling.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
