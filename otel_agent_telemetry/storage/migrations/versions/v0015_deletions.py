# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0015: marks of deleted runs, and the cut-offs of retention, so that what is deleted stays so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two tables."""
    op.create_table(
        "deleted_runs",
        sa.Column("event_id", sa.Text(), primary_key=True),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.Text(), nullable=False),
        sa.Column("deleted_by", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text()),
    )
    has_trace = sa.text("trace_id IS NOT NULL")
    op.create_index(
        "ix_deleted_runs_trace_id", "deleted_runs", ["trace_id"], sqlite_where=has_trace, postgresql_where=has_trace
    )
    op.create_table(
        "retention_cutoffs",
        sa.Column("record_type", sa.Text(), primary_key=True),
        sa.Column("cutoff", sa.Text(), nullable=False),
        sa.Column("applied_at", sa.Text(), nullable=False),
    )
