# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""How migrations run: on the connection that `storage.schema` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="alembic_version",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
