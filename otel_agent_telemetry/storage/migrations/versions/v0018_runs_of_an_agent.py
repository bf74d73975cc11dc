# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0018: the runs of one agent are found, newest first, without reading those of others."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add one index."""
    op.create_index("ix_agent_runs_agent_name", "agent_runs", ["agent_name", "created_at", "id"])
