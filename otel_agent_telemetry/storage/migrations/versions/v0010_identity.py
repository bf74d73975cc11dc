# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0010: spans and events are identified by their span's start as well, runs found by trace and span.

Trace and span ids repeat where an application seeds `random`. Rows that are there get -1 as their
span's start in nanoseconds, which only earlier versions leave unknown; nothing is rewritten.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_HAS_TRACE = sa.text("trace_id IS NOT NULL")


def upgrade() -> None:
    """Add columns and exchange three indexes of revision 0009."""
    op.add_column("run_spans", _start("start_ns"))
    op.add_column("run_spans", sa.Column("parent_start", sa.Text()))
    op.drop_index("ux_run_spans_span", "run_spans")
    op.create_index("ux_run_spans_span", "run_spans", ["trace_id", "span_id", "start_ns"], unique=True)
    op.add_column("run_events", _start("span_start_ns"))
    op.drop_index("ux_run_events_place", "run_events")
    op.create_index("ux_run_events_place", "run_events", ["trace_id", "span_id", "span_start_ns", "seq"], unique=True)
    op.drop_index("ix_agent_runs_trace_id", "agent_runs")
    op.create_index(
        "ix_agent_runs_trace_id",
        "agent_runs",
        ["trace_id", "span_id"],
        sqlite_where=_HAS_TRACE,
        postgresql_where=_HAS_TRACE,
    )


def _start(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("-1"))
