# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0023: the runs that were stored with a commit are found by it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add one index."""
    has_commit = sa.text("git_commit_hash IS NOT NULL")
    op.create_index(
        "ix_agent_runs_git_commit_hash",
        "agent_runs",
        ["git_commit_hash"],
        sqlite_where=has_commit,
        postgresql_where=has_commit,
    )
