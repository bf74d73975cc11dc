# ruff: noqa: INP001, S608 - loaded by Alembic from its folder, never imported; names of our own columns
"""Schema revision 0020: what agents did in a period, and figures by user, repository and label.

A change of a run's user, repository, labels or tool calls notes its hour too. The hours of the runs
that are stored already are noted, so that the service adds them up again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_COUNTED = (
    "run_id, created_at, start_time, agent_name, status, duration_ms, host, session_id, parent_run_id, model,"
    " input_tokens, output_tokens, cost_usd, model_calls, metrics_json, plumbing,"
    " user_id, git_repo, labels, tool_calls"
)
"""The columns of a run that its figures are made of."""
_SUMS = (
    *("runs", "ended", "failed", "duration_ms", "tool_calls"),
    *("step_errors", "tool_decisions", "rejected_tools"),
)
_TRIGGER = "agent_runs_figures_other"


def upgrade() -> None:
    """Add a table, let more changes note their hour, and note the hours of the runs that are there."""
    op.create_table(
        "work_periods",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in ("dimension", "period", "name")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _SUMS),
        sqlite_with_rowid=False,
    )
    is_session = sa.text("dimension = 'session'")
    op.create_index(
        "ix_work_periods_session",
        "work_periods",
        ["name", "period"],
        sqlite_where=is_session,
        postgresql_where=is_session,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP TRIGGER {_TRIGGER} ON agent_runs")
        op.execute(
            f"CREATE TRIGGER {_TRIGGER} AFTER UPDATE OF {_COUNTED} ON agent_runs"
            f" FOR EACH ROW EXECUTE FUNCTION {_TRIGGER}()"
        )
        changed = "nextval('changed_hours_change')"
        op.execute(
            f"INSERT INTO changed_hours SELECT hour, {changed} FROM run_hours GROUP BY hour HAVING sum(runs) > 0"
        )
        return
    op.execute(f"DROP TRIGGER {_TRIGGER}")
    again = "ON CONFLICT (hour) DO UPDATE SET change = change + 1"
    op.execute(
        f"CREATE TRIGGER {_TRIGGER} AFTER UPDATE OF {_COUNTED} ON agent_runs  BEGIN INSERT INTO changed_hours"
        f" VALUES (substr(NEW.created_at, 1, 13), 0) {again}; END"
    )
    # WHERE true: without it SQLite takes ON for the beginning of a join.
    op.execute(
        f"INSERT INTO changed_hours SELECT hour, 0 FROM run_hours WHERE true GROUP BY hour HAVING sum(runs) > 0 {again}"
    )
