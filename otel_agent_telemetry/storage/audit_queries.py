"""Figures over many runs, worked out by the database. Each function takes a connection from `engine.reading`.

`since` is our text of an instant; None is from the beginning. What comes back is as small as
was asked for, however many runs there are; SQLite and PostgreSQL sort on disk what does not
fit into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, case, func, select, true
from sqlalchemy.sql.expression import literal_column

from otel_agent_telemetry import status as st
from otel_agent_telemetry.storage.engine import sqlite_path
from otel_agent_telemetry.storage.tables import agent_runs, metadata

_runs: Final = agent_runs.c
_DAY: Final = len("2026-01-31")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFigures:
    """One agent's runs. Durations are those of ended runs, nearest rank, None when none has ended."""

    agent_name: str
    runs: int
    ended: int
    succeeded: int
    failed: int
    """Ended as `failed` or `timeout`."""
    median_ms: int | None
    p95_ms: int | None

    @property
    def success_rate(self) -> float | None:
        """Of the ended runs, those that succeeded: 0 to 1; None when none has ended."""
        return self.succeeded / self.ended if self.ended else None


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has not ended."""

    run_id: str
    agent_name: str
    job_type: str
    start_time: str


def top_agents(connection: Connection, *, since: str | None, limit: int) -> list[AgentFigures]:
    """The agents with the most runs, most first."""
    number = func.count()
    chosen = (
        select(
            _runs.agent_name,
            number.label("runs"),
            _number_of(_runs.status != _word(st.RUNNING)).label("ended"),
            _number_of(_runs.status == st.SUCCESS).label("succeeded"),
            _number_of(_runs.status.in_((st.FAILED, st.TIMEOUT))).label("failed"),
        )
        .where(_since(since))
        .group_by(_runs.agent_name)
        .order_by(number.desc(), _runs.agent_name)
        .limit(limit)
    )
    rows = connection.execute(chosen).mappings().all()
    durations = _durations(connection, [row["agent_name"] for row in rows], since)
    nothing = {"median_ms": None, "p95_ms": None}
    return [AgentFigures(**row, **durations.get(row["agent_name"], nothing)) for row in rows]


def _number_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))


def _durations(connection: Connection, agents: Sequence[str], since: str | None) -> dict[str, dict[str, int]]:
    """Agent → median and 95th percentile, of the ended runs in order of their duration."""
    ended = (_runs.agent_name.in_(agents), _runs.status != _word(st.RUNNING), _since(since))
    place = func.row_number().over(partition_by=_runs.agent_name, order_by=_runs.duration_ms).label("place")
    of = func.count().over(partition_by=_runs.agent_name).label("of")
    ranked = select(_runs.agent_name, _runs.duration_ms, place, of).where(*ended).subquery()
    at = {"median_ms": _rank(ranked.c.of, 50), "p95_ms": _rank(ranked.c.of, 95)}
    figures = [func.max(case((ranked.c.place == rank, ranked.c.duration_ms))).label(name) for name, rank in at.items()]
    rows = connection.execute(select(ranked.c.agent_name, *figures).group_by(ranked.c.agent_name)).mappings()
    return {row["agent_name"]: {name: int(row[name]) for name in at} for row in rows}


def _rank(of: ColumnElement[int], percent: int) -> ColumnElement[int]:
    """The nearest rank, counted from 1: the percentage of the number, rounded up, in whole numbers."""
    return (of * percent + 99) // 100


def status_counts(connection: Connection, *, since: str | None) -> dict[str, int]:
    """Status → runs, most first."""
    number = func.count()
    chosen = select(_runs.status, number).where(_since(since)).group_by(_runs.status)
    return {str(word): int(runs) for word, runs in connection.execute(chosen.order_by(number.desc(), _runs.status))}


def runs_by_day(connection: Connection, *, since: str | None, limit: int) -> dict[str, int]:
    """UTC day (`YYYY-MM-DD`) → runs created on it, newest first, days without a run left out."""
    day = func.substr(_runs.created_at, 1, _DAY).label("day")
    chosen = select(day, func.count()).where(_since(since)).group_by(day).order_by(day.desc()).limit(limit)
    return {str(of): int(runs) for of, runs in connection.execute(chosen)}


def longest_open(connection: Connection, *, limit: int) -> list[OpenRun]:
    """Runs that have not ended, those first that were created first."""
    chosen = select(_runs.run_id, _runs.agent_name, _runs.job_type, _runs.start_time)
    oldest_first = chosen.where(_runs.status == _word(st.RUNNING)).order_by(_runs.created_at).limit(limit)
    return [OpenRun(*row) for row in connection.execute(oldest_first)]


def first_and_last(connection: Connection) -> tuple[str | None, str | None]:
    """`created_at` of the oldest and of the newest run; None when there is none."""
    ends = [connection.execute(select(end(_runs.created_at))).scalar() for end in (func.min, func.max)]
    return ends[0], ends[1]


def table_rows(connection: Connection) -> dict[str, int]:
    """Table of ours → rows."""
    return {
        name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
        for name, table in sorted(metadata.tables.items())
    }


def database_bytes(connection: Connection) -> int:
    """How much room the database takes: its file, or what the server says."""
    path = sqlite_path(connection.engine)
    if path is not None:
        return path.stat().st_size
    return int(connection.execute(select(func.pg_database_size(func.current_database()))).scalar_one())


def _since(since: str | None) -> ColumnElement[bool]:
    return true() if since is None else _runs.created_at >= since


def _word(word: str) -> ColumnElement[Any]:
    """In the statement itself, so that the partial index can be used."""
    return literal_column(f"'{word}'")
