"""Compare the figures that are kept with those of the runs, and correct what differs.

An hour that waits for its refresh differs because it waits; it, its day, and those of the runs in the
same trees are passed over. What
triggers cannot see, a table restored by itself or a trigger switched off, is found here.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, select, union

from otel_agent_telemetry.storage.counts import CountDifference
from otel_agent_telemetry.storage.figure_refresh import TABLES, hours_related, replace_figures
from otel_agent_telemetry.storage.figures import AGENT_SUMS, DAY, Figures, UsageKey, figures_of
from otel_agent_telemetry.storage.tables import changed_hours, run_hours
from otel_agent_telemetry.storage.usage_sums import Sums
from otel_agent_telemetry.storage.work_sums import Work


def check_figures(connection: Connection) -> list[CountDifference]:
    """Return every sum that differs, in order of period. Reads all runs, those of some days twice."""
    return [difference for period in _settled(connection) for difference in _differences(connection, period)]


def repair_figures(connection: Connection) -> list[CountDifference]:
    """Correct the figures within the connection's writing transaction; return what was wrong."""
    found = []
    for period in _settled(connection):
        if differences := list(_differences(connection, period)):
            replace_figures(connection, period, figures_of(connection, period))
            found += differences
    return found


def _settled(connection: Connection) -> list[str]:
    """Return the periods that are kept, and the days that should be, without those that wait for a refresh."""
    kept = connection.execute(union(*(select(table.c.period) for table in TABLES))).scalars()
    days = {hour[:DAY] for hour in connection.execute(select(run_hours.c.hour).distinct()).scalars()}
    noted = set(connection.execute(select(changed_hours.c.hour).distinct()).scalars())
    waiting = noted.union(*(hours_related(connection, (hour,)) for hour in noted))
    waiting |= {hour[:DAY] for hour in waiting}
    return sorted({*kept, *days} - waiting)


def _differences(connection: Connection, period: str) -> Iterator[CountDifference]:
    """Yield the sums of one period that are not those of its runs."""
    kept, actual = _rows(stored_figures(connection, period)), _rows(figures_of(connection, period))
    for key in sorted(kept.keys() | actual.keys()):
        if kept.get(key, 0) != actual.get(key, 0):
            table, *names = key
            yield CountDifference(table, (period, *names), kept.get(key, 0), actual.get(key, 0))


def stored_figures(connection: Connection, period: str) -> Figures:
    """Return the figures that are kept for a period."""
    figures = Figures()
    agents, durations, usage, work = (
        connection.execute(select(table).where(table.c.period == period)).all() for table in TABLES
    )
    figures.agents = {row.agent_name: [getattr(row, name) for name in AGENT_SUMS] for row in agents}
    for row in durations:
        figures.durations[row.agent_name, row.from_ms] = row.runs
    for row in usage:
        key = UsageKey(*(getattr(row, name) for name in UsageKey._fields))
        figures.usage[key] = Sums(*(getattr(row, name) for name in Sums._fields))
    for row in work:
        figures.work[row.dimension, row.name] = Work(*(getattr(row, name) for name in Work._fields))
    return figures


def _rows(figures: Figures) -> dict[tuple[str, ...], int]:
    """Return table, key and column → sum, without sums of 0."""
    sums: dict[tuple[str, ...], int] = {}
    for agent, counts in figures.agents.items():
        sums |= {("agent_periods", agent, name): value for name, value in zip(AGENT_SUMS, counts, strict=True)}
    for (agent, bound), runs in figures.durations.items():
        sums["duration_periods", agent, str(bound)] = runs
    for key, used in figures.usage.items():
        names = tuple(map(str, key))
        sums |= {("usage_periods", *names, name): value for name, value in used._asdict().items()}
    for place, done in figures.work.items():
        sums |= {("work_periods", *place, name): value for name, value in done._asdict().items()}
    return {key: value for key, value in sums.items() if value}
