"""Aggregate over many runs, in the database. Each function takes a connection from `engine.reading`.

`since` is our text of an instant; None is from the beginning. What is returned is bounded by
`limit`, however many runs there are; SQLite and PostgreSQL sort on disk what does not fit into
memory. Single runs and listings are in `queries`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, case, func, select, true

from otel_agent_telemetry import status as st
from otel_agent_telemetry.storage.engine import sqlite_path
from otel_agent_telemetry.storage.priced_sums import Spending
from otel_agent_telemetry.storage.run_filters import is_running
from otel_agent_telemetry.storage.statements import count_rows
from otel_agent_telemetry.storage.table_parts import metadata
from otel_agent_telemetry.storage.tables import agent_runs

_runs: Final = agent_runs.c
_DAY: Final = len("2026-01-31")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStats:
    """One agent's runs. Durations are those of ended runs, nearest rank, None when none has ended.

    `cost_usd` is None when nothing has a price; `unpriced_tokens` are those that the cost leaves out.
    """

    agent_name: str
    runs: int
    ended: int
    succeeded: int
    failed: int
    """Ended as `failed` or `timeout`."""
    median_ms: int | None
    p95_ms: int | None
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    unpriced_tokens: int

    @property
    def success_rate(self) -> float | None:
        """Return the share of the ended runs that succeeded, 0 to 1; None when none has ended."""
        return self.succeeded / self.ended if self.ended else None


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has not ended."""

    run_id: str
    agent_name: str
    job_type: str
    start_time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Figures of a database, all from one instant.

    They count the runs created since the instant asked for: `days` by UTC day, tokens and cost of all agents, also
    of those that are not in `agents`. `rows`, counts by table, and `bytes` are of the whole database.
    """

    agents: list[AgentStats]
    statuses: dict[str, int]
    days: dict[str, int]
    open: list[OpenRun]
    oldest: str | None
    newest: str | None
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    unpriced_tokens: int
    rows: dict[str, int]
    bytes: int


def top_agents(
    connection: Connection, spent: Mapping[str, Spending], *, since: str | None, limit: int
) -> list[AgentStats]:
    """Return the agents with the most runs, most first, with what they have `spent`."""
    number = func.count()
    selected = (
        select(
            _runs.agent_name,
            number.label("runs"),
            _number_of(~is_running()).label("ended"),
            _number_of(_runs.status == st.SUCCESS).label("succeeded"),
            _number_of(_runs.status.in_((st.FAILED, st.TIMEOUT))).label("failed"),
        )
        .where(_since(since))
        .group_by(_runs.agent_name)
        .order_by(number.desc(), _runs.agent_name)
        .limit(limit)
    )
    rows = connection.execute(selected).mappings().all()
    durations = _durations(connection, [row["agent_name"] for row in rows], since)
    nothing = {"median_ms": None, "p95_ms": None}
    return [
        AgentStats(
            **row,
            **durations.get(row["agent_name"], nothing),
            **amounts_of(spent.get(row["agent_name"], Spending())),
        )
        for row in rows
    ]


def amounts_of(spent: Spending) -> dict[str, Any]:
    """Return tokens and cost as the figures name them, the cost to 10^-9 US dollars."""
    return {
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "cost_usd": None if spent.cost_usd is None else round(spent.cost_usd, 9),
        "unpriced_tokens": sum(spent.unpriced.values()),
    }


def _number_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Return the number of rows of a group for which the condition holds."""
    return func.count(case((condition, 1)))


def _durations(connection: Connection, agents: Sequence[str], since: str | None) -> dict[str, dict[str, int]]:
    """Return agent → `median_ms` and `p95_ms` of its ended runs."""
    ended = (_runs.agent_name.in_(agents), ~is_running(), _since(since))
    rank = func.row_number().over(partition_by=_runs.agent_name, order_by=_runs.duration_ms).label("rank")
    total = func.count().over(partition_by=_runs.agent_name).label("total")
    ranked = select(_runs.agent_name, _runs.duration_ms, rank, total).where(*ended).subquery()
    wanted = {"median_ms": _nearest_rank(ranked.c.total, 50), "p95_ms": _nearest_rank(ranked.c.total, 95)}
    durations = [func.max(case((ranked.c.rank == at, ranked.c.duration_ms))).label(name) for name, at in wanted.items()]
    rows = connection.execute(select(ranked.c.agent_name, *durations).group_by(ranked.c.agent_name)).mappings()
    return {row["agent_name"]: {name: int(row[name]) for name in wanted} for row in rows}


def _nearest_rank(total: ColumnElement[int], percent: int) -> ColumnElement[int]:
    """Return the nearest rank, counted from 1: the percentage of the total, rounded up."""
    return (total * percent + 99) // 100


def status_counts(connection: Connection, *, since: str | None) -> dict[str, int]:
    """Return status → runs, most first."""
    number = func.count()
    selected = select(_runs.status, number).where(_since(since)).group_by(_runs.status)
    return {
        str(status): int(runs) for status, runs in connection.execute(selected.order_by(number.desc(), _runs.status))
    }


def runs_by_day(connection: Connection, *, since: str | None, limit: int) -> dict[str, int]:
    """Return UTC day (`YYYY-MM-DD`) → runs created on it, newest first, without days that have no run."""
    day = func.substr(_runs.created_at, 1, _DAY).label("day")
    selected = select(day, func.count()).where(_since(since)).group_by(day).order_by(day.desc()).limit(limit)
    return {str(date): int(runs) for date, runs in connection.execute(selected)}


def longest_open(connection: Connection, *, since: str | None, limit: int) -> list[OpenRun]:
    """Return the runs that have not ended, oldest first."""
    selected = select(_runs.run_id, _runs.agent_name, _runs.job_type, _runs.start_time)
    oldest_first = selected.where(is_running(), _since(since)).order_by(_runs.created_at).limit(limit)
    return [OpenRun(*row) for row in connection.execute(oldest_first)]


def first_and_last(connection: Connection, *, since: str | None) -> tuple[str | None, str | None]:
    """Return `created_at` of the oldest and of the newest run; None when there is none."""
    ends = [
        connection.execute(select(end(_runs.created_at)).where(_since(since))).scalar() for end in (func.min, func.max)
    ]
    return ends[0], ends[1]


def table_rows(connection: Connection) -> dict[str, int]:
    """Return table → rows, for the tables of this package."""
    return {name: count_rows(connection, table) for name, table in sorted(metadata.tables.items())}


def database_bytes(connection: Connection) -> int:
    """Return the size of the database: of its file, or as the server reports it."""
    path = sqlite_path(connection.engine)
    if path is not None:
        return path.stat().st_size
    return int(connection.execute(select(func.pg_database_size(func.current_database()))).scalar_one())


def _since(since: str | None) -> ColumnElement[bool]:
    """Return the condition on the creation time; true for every row without a bound."""
    return true() if since is None else _runs.created_at >= since
