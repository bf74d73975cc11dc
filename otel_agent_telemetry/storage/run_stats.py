"""Count the runs for the service's statistics, its metrics and the client. Each function takes a connection.

The counts of all runs come from the small tables of `counts`, so they cost the same at any number of
runs. Plumbing has no such table: it is counted from an index. Figures by agent, day and duration are in
`audit_queries`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from sqlalchemy import Connection, func, select

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.storage.counts import count_by, count_since
from otel_agent_telemetry.storage.run_filters import is_plumbing, is_running
from otel_agent_telemetry.storage.statements import count_rows
from otel_agent_telemetry.storage.tables import agent_runs

_DAY_NS: Final = 86_400 * 1_000_000_000
_runs: Final = agent_runs.c


def run_stats(connection: Connection, now_ns: int, *, plumbing: bool | None = None) -> dict[str, Any]:
    """Return `{"total_runs", "agents": {name: runs}, "recent_24h", "statuses": {status: runs}}` (seed 001).

    `plumbing`: count only plumbing, or none of it; default all runs. Either reads what is plumbing,
    from an index; all runs cost the same at any number.
    """
    since = iso_utc(now_ns - _DAY_NS)
    if plumbing:
        return _plumbing_stats(connection, since)
    everything: dict[str, Any] = {
        "agents": count_by(connection, "agent_name"),
        "recent_24h": count_since(connection, since),
        "statuses": count_by(connection, "status"),
    }
    # All minus plumbing, both from few rows; counting what is no plumbing would read every run.
    if plumbing is not None:
        hidden = _plumbing_stats(connection, since)
        everything = {name: _less(counts, hidden[name]) for name, counts in everything.items()}
    return {"total_runs": sum(everything["agents"].values()), **everything}


def _plumbing_stats(connection: Connection, since: str) -> dict[str, Any]:
    """Return the statistics of plumbing alone."""
    kinds = (_runs.agent_name, _runs.status)
    rows = connection.execute(select(*kinds, func.count()).where(is_plumbing()).group_by(*kinds)).all()
    agents: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    for agent, status, number in rows:
        agents[agent] += number
        statuses[status] += number
    recent = count_rows(connection, agent_runs, is_plumbing(), _runs.created_at > since)
    named = {"agents": dict(sorted(agents.items())), "recent_24h": recent, "statuses": dict(sorted(statuses.items()))}
    return {"total_runs": agents.total(), **named}


def _less(counts: Any, fewer: Any) -> Any:
    """Return a count, or counts by name, without those of some runs; names without a run are left out."""
    if isinstance(counts, int):
        return max(counts - fewer, 0)
    return {name: left for name, number in counts.items() if (left := number - fewer.get(name, 0)) > 0}


def oldest_open(connection: Connection) -> str | None:
    """Return when the oldest run that has not ended was created; costs the same at any number of runs."""
    oldest: str | None = connection.execute(
        select(_runs.created_at).where(is_running()).order_by(_runs.created_at).limit(1)
    ).scalar()
    return oldest
