"""Runs migrations on the connection that cloud/platform/schema.py hands over. There is no offline mode."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
