# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0009: runs found by trace, spans that arrive before their run, counts on PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_HAS_TRACE = sa.text("trace_id IS NOT NULL")
_HAS_PARENT = sa.text("parent_run_id IS NOT NULL")


def upgrade() -> None:
    """Add columns, indexes and a table to revision 0008; no run is rewritten."""
    op.create_index(
        "ix_agent_runs_trace_id", "agent_runs", ["trace_id"], sqlite_where=_HAS_TRACE, postgresql_where=_HAS_TRACE
    )
    op.add_column("run_spans", sa.Column("is_run", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("run_spans", sa.Column("usage_json", sa.Text()))
    op.drop_index("ix_run_spans_event_id", "run_spans")
    op.create_index("ix_run_spans_event_id", "run_spans", ["event_id", "trace_id", "parent_span_id"])
    op.drop_index("ux_run_events_place", "run_events")
    op.create_index("ux_run_events_place", "run_events", ["trace_id", "span_id", "seq"], unique=True)
    op.create_index("ix_run_events_event_id", "run_events", ["event_id"])
    op.create_table(
        "run_rollups",
        sa.Column("event_id", sa.Text(), primary_key=True),
        sa.Column("parent_run_id", sa.Text()),
        sa.Column("usage_json", sa.Text(), nullable=False),
    )
    op.create_index(
        "ix_run_rollups_parent_run_id",
        "run_rollups",
        ["parent_run_id"],
        sqlite_where=_HAS_PARENT,
        postgresql_where=_HAS_PARENT,
    )
    if op.get_bind().dialect.name == "postgresql":
        _count_by_triggers()


def _count_by_triggers() -> None:
    """Let triggers insert +1 and -1 rows for each change of a run; readers sum them, a writer compacts them.

    Rows are only inserted, so writers never wait for each other's counts, and each concurrent
    upsert is counted by its actual effect.
    """
    op.execute("ALTER TABLE run_counts DROP CONSTRAINT run_counts_pkey")
    op.execute("ALTER TABLE run_hours DROP CONSTRAINT run_hours_pkey")
    op.execute("DELETE FROM run_counts")
    op.execute("DELETE FROM run_hours")
    op.execute(
        "INSERT INTO run_counts"
        " SELECT agent_name, job_type, status, count(*) FROM agent_runs GROUP BY agent_name, job_type, status"
    )
    op.execute("INSERT INTO run_hours SELECT left(created_at, 13), count(*) FROM agent_runs GROUP BY 1")
    op.execute("""
        CREATE FUNCTION agent_runs_counted() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                INSERT INTO run_counts VALUES (OLD.agent_name, OLD.job_type, OLD.status, -1);
                INSERT INTO run_hours VALUES (left(OLD.created_at, 13), -1);
            END IF;
            IF TG_OP <> 'DELETE' THEN
                INSERT INTO run_counts VALUES (NEW.agent_name, NEW.job_type, NEW.status, 1);
                INSERT INTO run_hours VALUES (left(NEW.created_at, 13), 1);
            END IF;
            RETURN NULL;
        END $$""")
    op.execute("""
        CREATE TRIGGER agent_runs_come_and_go AFTER INSERT OR DELETE ON agent_runs
            FOR EACH ROW EXECUTE FUNCTION agent_runs_counted()""")
    op.execute("""
        CREATE TRIGGER agent_runs_changed AFTER UPDATE ON agent_runs FOR EACH ROW
            WHEN ((OLD.agent_name, OLD.job_type, OLD.status, left(OLD.created_at, 13))
                IS DISTINCT FROM (NEW.agent_name, NEW.job_type, NEW.status, left(NEW.created_at, 13)))
            EXECUTE FUNCTION agent_runs_counted()""")
