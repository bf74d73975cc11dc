# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0017: figures of agents, models, hosts and sessions by hour and day, and the hours to be added again.

Triggers note the hour of each run that comes, changes or goes, and those of the runs around and
inside it when that relation changes. The figures of runs that are stored already are added
later, by the service: the upgrade only notes their hours.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_STATUSES = ("running", "success", "failed", "partial", "timeout", "cancelled")
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_COUNTED = (
    "run_id, created_at, start_time, agent_name, status, duration_ms, host, session_id, parent_run_id, model,"
    " input_tokens, output_tokens, cost_usd, model_calls, metrics_json, plumbing"
)
"""The columns of a run that its figures are made of."""


def upgrade() -> None:
    """Add four tables and the triggers; note the hours of the runs that are there."""
    op.create_table(
        "changed_hours",
        sa.Column("hour", sa.Text(), primary_key=True),
        sa.Column("change", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "agent_periods",
        sa.Column("period", sa.Text(), primary_key=True),
        sa.Column("agent_name", sa.Text(), primary_key=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in (*_STATUSES, "ended", "duration_ms")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "duration_periods",
        sa.Column("agent_name", sa.Text(), primary_key=True),
        sa.Column("period", sa.Text(), primary_key=True),
        sa.Column("from_ms", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_duration_periods_period", "duration_periods", ["period"])
    keys = ("dimension", "period", "name", "model", "provider", "priced_by")
    op.create_table(
        "usage_periods",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in keys),
        sa.Column("call_size", sa.BigInteger(), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("runs", "calls", *_TOKENS, "cost_nusd")),
        sqlite_with_rowid=False,
    )
    is_session = sa.text("dimension = 'session'")
    for name, columns in (
        ("ix_usage_periods_session", ["name", "period"]),
        ("ix_usage_periods_most", ["period", "input_tokens", "name"]),
    ):
        op.create_index(name, "usage_periods", columns, sqlite_where=is_session, postgresql_where=is_session)
    if op.get_bind().dialect.name == "postgresql":
        _triggers_of_postgresql()
    else:
        _triggers_of_sqlite()
    op.execute("INSERT INTO changed_hours SELECT hour, 0 FROM run_hours GROUP BY hour HAVING sum(runs) > 0")


_MOVED = (
    "OLD.parent_run_id IS {differs} NEW.parent_run_id OR OLD.run_id <> NEW.run_id OR OLD.created_at <> NEW.created_at"
)
"""The run stands elsewhere in its tree, or in another hour."""
_RUNS = "SELECT substr(created_at, 1, 13), {{}} FROM agent_runs WHERE {}"
_WAS, _NOW = "VALUES (substr(OLD.created_at, 1, 13), {})", "VALUES (substr(NEW.created_at, 1, 13), {})"
_AROUND, _INSIDE = _RUNS.format("run_id = OLD.parent_run_id"), _RUNS.format("parent_run_id = OLD.run_id")
_OF_OLD, _OF_NEW = _RUNS.format("event_id = OLD.event_id"), _RUNS.format("event_id = NEW.event_id")
_TRIGGERS = (
    ("agent_runs_figures_new", "INSERT", "agent_runs", "", (_NOW,)),
    ("agent_runs_figures_other", f"UPDATE OF {_COUNTED}", "agent_runs", "", (_NOW,)),
    ("agent_runs_moved", "UPDATE", "agent_runs", _MOVED, (_WAS, _AROUND, _INSIDE)),
    ("agent_runs_figures_gone", "DELETE", "agent_runs", "", (_WAS, _AROUND, _INSIDE)),
    ("run_rollups_new", "INSERT", "run_rollups", "", (_OF_NEW,)),
    ("run_rollups_other", "UPDATE", "run_rollups", "", (_OF_NEW, _AROUND)),
    ("run_rollups_gone", "DELETE", "run_rollups", "", (_OF_OLD, _AROUND)),
)
"""Name, what happens, to which table, on which condition, and the hours to be noted with a number."""


def _triggers_of_sqlite() -> None:
    """Count the changes of an hour, so that a reader knows whether one came after it began to read."""
    note = "INSERT INTO changed_hours {} ON CONFLICT (hour) DO UPDATE SET change = change + 1;"
    for name, event, table, condition, hours in _TRIGGERS:
        when = f"WHEN {condition.format(differs='NOT')}" if condition else ""
        body = " ".join(note.format(values.format(0)) for values in hours)
        op.execute(f"CREATE TRIGGER {name} AFTER {event} ON {table} {when} BEGIN {body} END")


def _triggers_of_postgresql() -> None:
    """Add a line for each change: writers that counted in one row would wait for each other."""
    op.execute("ALTER TABLE changed_hours DROP CONSTRAINT changed_hours_pkey")
    op.execute("CREATE SEQUENCE changed_hours_change OWNED BY changed_hours.change")
    number = "nextval('changed_hours_change')"
    for name, event, table, condition, hours in _TRIGGERS:
        when = f"WHEN ({condition.format(differs='DISTINCT FROM')})" if condition else ""
        body = " ".join(f"INSERT INTO changed_hours {values.format(number)};" for values in hours)
        op.execute(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$")
        op.execute(f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW {when} EXECUTE FUNCTION {name}()")
