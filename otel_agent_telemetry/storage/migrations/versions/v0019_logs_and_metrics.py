# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0019: log records as events of runs, counts of those of no run, figures of sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two indexes and two tables."""
    _partial_index("ix_run_events_log", "trace_id")
    _partial_index("ix_run_events_log_run", "event_id", "run_id")
    op.create_table(
        "log_senders",
        sa.Column("sender", sa.Text(), primary_key=True),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.Text(), nullable=False),
    )
    op.create_table(
        "session_metrics",
        sa.Column("series", sa.Text(), primary_key=True),
        sa.Column("start_ns", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("point_ns", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("time", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("figure", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
    )
    op.create_index("ix_session_metrics_session", "session_metrics", ["session_id", "sender"])
    op.create_index("ix_session_metrics_time", "session_metrics", ["time"])


def _partial_index(name: str, *columns: str) -> None:
    """Add an index of `run_events` for only the rows that its reads look for."""
    condition = sa.text("seq < 0 AND writer = ''")
    op.create_index(name, "run_events", list(columns), sqlite_where=condition, postgresql_where=condition)
