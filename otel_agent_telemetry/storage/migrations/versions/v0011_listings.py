# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0011: listings of runs that did not succeed, and of those since a time, read no other runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NOT_SUCCEEDED = sa.text("status <> 'running' AND status <> 'success'")


def upgrade() -> None:
    """Add two indexes."""
    op.create_index("ix_agent_runs_start_time", "agent_runs", ["start_time"])
    op.create_index(
        "ix_agent_runs_not_succeeded",
        "agent_runs",
        ["status", "created_at", "id"],
        sqlite_where=_NOT_SUCCEEDED,
        postgresql_where=_NOT_SUCCEEDED,
    )
