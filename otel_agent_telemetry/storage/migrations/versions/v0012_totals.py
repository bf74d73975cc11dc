# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema version 9: sessions, people, changes, labels and the totals of a run in columns of their own.

Runs that are stored get their totals from `metrics_json` and from their roll-ups, and the commit
that they began on from `context_json`. Everything is written out here as it is in version 9.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TEXTS = (
    *("received_at", "session_id", "user_id", "agent_version", "change_id", "pipeline_url", "start_commit", "model"),
)
_TOTALS = ("model", "input_tokens", "output_tokens", "cost_usd", "model_calls", "tool_calls")
_COUNTS = ("input_tokens", "output_tokens", "model_calls", "tool_calls")
_NONE = dict.fromkeys(_COUNTS, 0)
_INDEXED = ("session_id", "user_id", "change_id")
_ROWS_AT_A_TIME = 1000
_MOST = 2**63 - 1
_MAX_WORDS = 100
_VIEW = """
    CREATE VIEW run_totals AS
    SELECT a.event_id, a.run_id, coalesce(a.parent_run_id, r.parent_run_id) AS parent_run_id, a.agent_name,
        a.job_type, a.status, a.created_at, a.model, a.input_tokens, a.output_tokens, a.cost_usd, a.model_calls,
        a.tool_calls, coalesce(r.metrics_json, a.metrics_json) AS metrics_json
    FROM agent_runs a LEFT JOIN run_rollups r ON r.event_id = a.event_id"""


def upgrade() -> None:
    """Add columns, indexes and a view, and fill the columns."""
    for column in _columns():
        op.add_column("agent_runs", column)
    op.add_column("run_rollups", sa.Column("metrics_json", sa.Text()))
    for name in _INDEXED:
        known = sa.text(f"{name} IS NOT NULL")
        columns = [name, "created_at", "id"]
        op.create_index(f"ix_agent_runs_{name}", "agent_runs", columns, sqlite_where=known, postgresql_where=known)
    plumbing = sa.text("plumbing = 1")
    op.create_index(
        "ix_agent_runs_plumbing",
        "agent_runs",
        ["created_at", "agent_name", "job_type", "status"],
        sqlite_where=plumbing,
        postgresql_where=plumbing,
    )
    op.execute(_VIEW)
    connection = op.get_bind()
    _fill(connection, _WITH_FIGURES, _TOTALS, _figures_of)
    _fill(connection, _WITH_ROLLUP, _TOTALS, _rolled_up)
    _fill(connection, _WITH_COMMIT, ("start_commit",), _commit_of)


def _columns() -> list[sa.Column[Any]]:
    """Return the new columns, as they were when this revision was made."""
    texts = [sa.Column(name, sa.Text()) for name in _TEXTS]
    counts = {name: sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0")) for name in _COUNTS}
    return [
        *texts,
        *(counts["input_tokens"], counts["output_tokens"], sa.Column("cost_usd", sa.Double())),
        *(counts["model_calls"], counts["tool_calls"], sa.Column("labels", sa.Text())),
        sa.Column("plumbing", sa.Integer(), nullable=False, server_default=sa.text("0")),
    ]


_runs = sa.table(
    "agent_runs",
    *(sa.column(name) for name in ("id", "event_id", "metrics_json", "context_json", "start_commit", *_TOTALS)),
)
_rollups = sa.table("run_rollups", *(sa.column(name) for name in ("event_id", "usage_json", "metrics_json")))
_WITH_FIGURES = sa.select(_runs.c.id, _runs.c.metrics_json).where(_runs.c.metrics_json.contains('"gen_ai"'))
_WITH_ROLLUP = sa.select(_runs.c.id, _runs.c.metrics_json, _rollups.c.event_id, _rollups.c.usage_json).join(
    _rollups, _rollups.c.event_id == _runs.c.event_id
)
_WITH_COMMIT = sa.select(_runs.c.id, _runs.c.context_json).where(_runs.c.context_json.contains('"start_commit"'))


def _fill(connection: sa.Connection, selected: Any, names: tuple[str, ...], values_of: Any) -> None:
    """Set columns of the selected runs, some at a time: a database may hold millions."""
    last = 0
    change = sa.update(_runs).where(_runs.c.id == sa.bindparam("of_id"))
    change = change.values({name: sa.bindparam(f"new_{name}") for name in names})
    while True:
        page = selected.where(_runs.c.id > last).order_by(_runs.c.id).limit(_ROWS_AT_A_TIME)
        rows = connection.execute(page).all()
        if not rows:
            return
        last = rows[-1].id
        found = [(row.id, values) for row in rows if (values := values_of(connection, row))]
        changes = [
            {"of_id": number, **{f"new_{name}": values.get(name, _NONE.get(name)) for name in names}}
            for number, values in found
        ]
        if changes:
            connection.execute(change, changes)


def _figures_of(_connection: sa.Connection, row: Any) -> dict[str, Any]:
    """Return the totals that a run's own state holds."""
    used = _object(row.metrics_json).get("gen_ai")
    return _totals(used) if isinstance(used, dict) else {}


def _rolled_up(connection: sa.Connection, row: Any) -> dict[str, Any]:
    """Return the totals of a run and its steps, and keep its metrics as they are read."""
    usage, metrics = _object(row.usage_json), _object(row.metrics_json)
    steps, own = usage.get("steps", {}), metrics.get("gen_ai", {})
    if not isinstance(own, dict):
        return {}
    has_tokens = any(name.endswith("_tokens") and count for name, count in steps.items())
    shown = steps if has_tokens else _added(usage.get("own", {}), steps)
    if not shown:
        return {}
    if shown.get("child_errors"):
        shown = {**shown, "had_errors": True}
    used = {**dict(sorted(shown.items())), **own}
    text = json.dumps({**metrics, "gen_ai": used}, separators=(",", ":"), ensure_ascii=False)
    connection.execute(sa.update(_rollups).where(_rollups.c.event_id == row.event_id).values({"metrics_json": text}))
    return _totals(used)


def _commit_of(_connection: sa.Connection, row: Any) -> dict[str, Any]:
    """Return the commit that a run began on."""
    commit = _object(row.context_json).get("start_commit")
    return {"start_commit": commit} if isinstance(commit, str) and commit else {}


def _totals(used: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the new columns that the `gen_ai` of a run gives."""
    totals: dict[str, Any] = {name: used[name] for name in _COUNTS if _is_count(used.get(name))}
    cost = used.get("cost_usd")
    if isinstance(cost, (int, float)) and not isinstance(cost, bool) and 0 <= cost < 1e15:  # noqa: PLR2004 - what the column takes
        totals["cost_usd"] = float(cost)
    by_model, models = used.get("by_model"), used.get("models")
    if isinstance(by_model, dict) and by_model:
        totals["model"] = min(by_model, key=lambda name: (-_calls(by_model[name]), name))
    elif isinstance(models, list) and models and isinstance(models[0], str):
        totals["model"] = models[0]
    return totals


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MOST


def _calls(usage: Any) -> int:
    """Return the number of calls of one model."""
    calls = usage.get("model_calls") if isinstance(usage, dict) else None
    return calls if isinstance(calls, int) else 0


def _added(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the sum of two usages: counts add up, lists are united, of anything else the second stays."""
    total = dict(one)
    for name, value in other.items():
        before = total.get(name)
        if isinstance(value, int) and isinstance(before, int):
            total[name] = before + value
        elif isinstance(value, list) and isinstance(before, list):
            total[name] = sorted({*before, *value})[:_MAX_WORDS]
        else:
            total[name] = value
    return total


def _object(text: str | None) -> dict[str, Any]:
    """Return the object of a JSON column; empty for anything else."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
