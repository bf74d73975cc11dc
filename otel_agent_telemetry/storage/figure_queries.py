"""Read the figures of agents and costs that `figure_refresh` keeps. Each function takes a connection and periods.

Periods are hours or days, as `figures` describes them, none twice. What is read is in the
order of size: of each list the greatest names alone, so a page costs the same at a million runs.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, bindparam, case, func, literal, select, text

from otel_agent_telemetry.status import STATUSES, SUCCESS
from otel_agent_telemetry.storage.durations import quantile
from otel_agent_telemetry.storage.figures import DAY
from otel_agent_telemetry.storage.priced_sums import Spending, price_changes
from otel_agent_telemetry.storage.tables import IS_SESSION, agent_periods, duration_periods, usage_periods
from otel_agent_telemetry.storage.usage_sums import BY_LIST, Key, Sums

_agents: Final = agent_periods.c
_durations: Final = duration_periods.c
_usage: Final = usage_periods.c
_all_runs: Final = sum((_agents[status] for status in STATUSES[1:]), start=_agents[STATUSES[0]])
_COUNTS: Final = (*STATUSES, "ended", "duration_ms")
_counts: Final = tuple(func.sum(_agents[name]).label(name) for name in _COUNTS)
_SUMS: Final = tuple(func.sum(_usage[name]).label(name) for name in Sums._fields)
_KEY: Final = tuple(_usage[name] for name in Key._fields)
_most_of_period: Final = (
    select(_usage.name, _usage.input_tokens)
    .where(IS_SESSION, _usage.period == bindparam("of_period"))
    .order_by(_usage.input_tokens.desc(), _usage.name.desc())
    .limit(bindparam("most"))
)
_day: Final = func.substr(_usage.period, 1, DAY).label("day")


@dataclass(frozen=True, slots=True)
class RunCounts:
    """Runs of an agent, or of a period: by status, and the duration of those that ended."""

    statuses: dict[str, int]
    ended: int
    duration_ms: int

    @property
    def runs(self) -> int:
        """Return how many there are."""
        return sum(self.statuses.values())

    @property
    def success_rate(self) -> float | None:
        """Return the share of the ended runs that succeeded; None while none has ended."""
        return self.statuses[SUCCESS] / self.ended if self.ended else None


def agent_counts(
    connection: Connection, periods: Sequence[str], *, names: Iterable[str] | None = None, limit: int
) -> dict[str, RunCounts]:
    """Return agent → its runs, those with the most first, at most `limit`; with `names` those alone."""
    selected = select(_agents.agent_name, *_counts).where(_agents.period.in_(periods))
    if names is not None:
        selected = selected.where(_agents.agent_name.in_(list(names)))
    selected = selected.group_by(_agents.agent_name).order_by(func.sum(_all_runs).desc(), _agents.agent_name)
    return {row.agent_name: _counts_of(row) for row in connection.execute(selected.limit(limit))}


def counts_by_period(connection: Connection, periods: Sequence[str], agent: str) -> dict[str, RunCounts]:
    """Return period → the runs of one agent; without periods in which it has none."""
    selected = select(agent_periods).where(_agents.period.in_(periods), _agents.agent_name == agent)
    return {row.period: _counts_of(row) for row in connection.execute(selected)}


def _counts_of(row: Any) -> RunCounts:
    """Return the runs of a row."""
    return RunCounts({status: int(getattr(row, status)) for status in STATUSES}, int(row.ended), int(row.duration_ms))


def duration_quantiles(
    connection: Connection, periods: Sequence[str], names: Sequence[str], shares: Sequence[float]
) -> dict[str, list[float | None]]:
    """Return agent → a duration in milliseconds for each share, within 5 %."""
    return _quantiles(connection, _durations.agent_name, periods, names, shares)


def quantiles_by_period(
    connection: Connection, periods: Sequence[str], agent: str, shares: Sequence[float]
) -> dict[str, list[float | None]]:
    """Return period → the same of one agent."""
    return _quantiles(connection, _durations.period, periods, [agent], shares)


def _quantiles(
    connection: Connection,
    by: ColumnElement[str],
    periods: Sequence[str],
    names: Sequence[str],
    shares: Sequence[float],
) -> dict[str, list[float | None]]:
    """Return name → a duration for each share, from the classes of durations."""
    wanted = (_durations.agent_name.in_(names), _durations.period.in_(periods))
    selected = select(by, _durations.from_ms, func.sum(_durations.runs)).where(*wanted).group_by(by, _durations.from_ms)
    classes: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for name, bound, runs in connection.execute(selected):
        classes[name][bound] = int(runs)
    return {name: [quantile(runs, share) for share in shares] for name, runs in classes.items()}


def greatest_users(connection: Connection, dimension: str, periods: Sequence[str], *, limit: int) -> list[str]:
    """Return the names of a dimension that used the most tokens, the greatest first, at most `limit`."""
    tokens = func.sum(_usage.input_tokens + _usage.output_tokens)
    selected = select(_usage.name).where(*_of(dimension, periods)).group_by(_usage.name)
    # By tokens and not by cost: what is not priced by a report is worked out only when it is shown.
    ordered = selected.order_by(tokens.desc(), func.sum(_usage.cost_nusd).desc(), _usage.name)
    return list(connection.execute(ordered.limit(limit)).scalars())


def greatest_sessions(connection: Connection, periods: Sequence[str], *, limit: int) -> list[str]:
    """Return the sessions that used the most input tokens of a model in one of the periods, at most `limit`.

    There may be as many sessions as runs, so they are found by an index, and not by adding them up.
    """
    most: dict[str, int] = {}
    for period in periods:
        for name, tokens in connection.execute(_most_of_period, {"of_period": period, "most": limit}):
            most[name] = max(int(tokens), most.get(name, 0))
    return heapq.nsmallest(limit, most, key=lambda name: (-most[name], name))


def spending_by_name(
    connection: Connection, dimension: str, periods: Sequence[str], names: Sequence[str] | None
) -> dict[str, Spending]:
    """Return name → what its runs used and cost; without names that used nothing. `names`: None is all of them."""
    day = _day_of_prices(connection, periods)
    wanted = _of(dimension, periods) if names is None else (*_of(dimension, periods), _usage.name.in_(names))
    return _spending(connection, select(_usage.name, day, *_KEY, *_SUMS).where(*wanted).group_by(_usage.name))


def spending_by_model(
    connection: Connection, periods: Sequence[str], *, agent: str | None = None
) -> dict[str, Spending]:
    """Return model, "" for none that is named, → what all runs, or those of an agent, used of it."""
    day = _day_of_prices(connection, periods)
    selected = select(_usage.model.label("of_model"), day, *_KEY, *_SUMS).where(*_of_runs(periods, agent))
    return _spending(connection, selected)


def spending_by_period(
    connection: Connection, periods: Sequence[str], *, agent: str | None = None
) -> dict[str, Spending]:
    """Return period → what all runs, or those of an agent, used in it; without periods in which they used nothing."""
    selected = select(_usage.period, _day, *_KEY, *_SUMS).where(*_of_runs(periods, agent))
    return _spending(connection, selected.group_by(_usage.period))


def spending_of_session(connection: Connection, session_id: str) -> Spending:
    """Return what the runs of a session used and cost, on whichever day."""
    # Days alone: their sums already hold the hours.
    wanted = (IS_SESSION, _usage.name == session_id, func.length(_usage.period) == DAY)
    selected = select(_usage.name, _day, *_KEY, *_SUMS).where(*wanted).group_by(_usage.name)
    return _spending(connection, selected).get(session_id, Spending())


def total(spendings: Iterable[Spending]) -> Spending:
    """Return the sum of several."""
    whole = Spending()
    for one in spendings:
        whole.include(one)
    return whole


def _of(dimension: str, periods: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions on a dimension and its periods."""
    return (_usage.dimension == dimension, _usage.period.in_(periods))


def _of_runs(periods: Sequence[str], agent: str | None) -> tuple[ColumnElement[bool], ...]:
    """Return the condition for the usage of all runs, or of an agent's: each run counts once in the dimension."""
    return _of("agent", periods) if agent is None else (*_of("agent", periods), _usage.name == agent)


def _day_of_prices(connection: Connection, periods: Sequence[str]) -> ColumnElement[str]:
    """Return the day whose prices are those of a row: the first of those days since which no price has changed.

    So a quarter is added up by the database, and not day by day here.
    """
    used = select(_usage.model, _usage.provider, _usage.call_size).distinct()
    models = connection.execute(used.where(*_of("agent", periods), _usage.priced_by == BY_LIST))
    first, *later = price_changes([tuple(row) for row in models], sorted({period[:DAY] for period in periods}))
    since = [(_usage.period >= literal(day), literal(day)) for day in reversed(later)]
    return (case(*since, else_=literal(first)) if since else literal(first)).label("day")


def _spending(connection: Connection, selected: Select[Any]) -> dict[str, Spending]:
    """Price the rows of a statement: name, day, key, sums."""
    found: defaultdict[str, Spending] = defaultdict(Spending)
    size = len(Key._fields)
    # By its name: the parameters of an expression that is repeated are others to PostgreSQL.
    for name, day, *values in connection.execute(selected.group_by(text("day"), *_KEY)):
        found[name].add(day, Key(*values[:size]), Sums(*map(int, values[size:])))
    return dict(found)
