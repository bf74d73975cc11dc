"""Keep the figures of periods (`figures`) in tables, and bring them up to date with the runs.

Triggers note in `changed_hours` the hour of each run that is written or deleted, by whichever
way. A *refresh* takes the noted hours of one day, the newest first, computes their figures from the
runs, and writes them; so no program that writes runs pays for figures. After it they are those
of the runs, whatever was written and in which order.

Hours are kept for some days, and a day is the sum of its hours; the hours of older days are
dropped, and a late change of one recomputes its day. Runs in other hours that are inside a run of
a noted hour, or around one, count differently with it: their hours are computed too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
)

from otel_agent_telemetry.storage.figures import DAY, HOUR, Figures, figures_of, in_period
from otel_agent_telemetry.storage.statements import rows_with
from otel_agent_telemetry.storage.tables import (
    agent_periods,
    agent_runs,
    changed_hours,
    duration_periods,
    run_rollups,
    store_facts,
    usage_periods,
    work_periods,
)

TABLES: Final = (agent_periods, duration_periods, usage_periods, work_periods)
_DAYS_OF_HOURS: Final = 3
"""Hours are kept for this day of UTC and so many before it: what a period of 24 hours and the one before it need."""
_AFTER_ALL: Final = "9999"
_MAX_NOTES: Final = 100_000
_HOURS_SINCE: Final = "figures_hours_since"
"""The fact of the store that names the first day whose hours are kept. It only goes forward."""
# Key of an advisory lock of PostgreSQL: "oat_figu" in ASCII, so that it can be recognised in `pg_locks`.
_REFRESH_LOCK: Final = 0x6F61745F66696775
_runs: Final = agent_runs.c
_parents: Final = func.coalesce(_runs.parent_run_id, run_rollups.c.parent_run_id)
_joined: Final = agent_runs.outerjoin(run_rollups, run_rollups.c.event_id == _runs.event_id)
_hour: Final = func.substr(_runs.created_at, 1, HOUR).label("hour")
_hours: Final = select(_hour)
_hours_by_id: Final = select(_runs.run_id, _hour)
_hours_by_spans: Final = _hours_by_id.select_from(_joined)
_inside_of: Final = select(_parents).select_from(_joined).where(_parents.is_not(None))
_with_inside: Final = select(_runs.run_id).where(
    or_(
        exists().where(agent_runs.alias("inside").c.parent_run_id == _runs.run_id),
        exists().where(run_rollups.alias("spans").c.parent_run_id == _runs.run_id),
    )
)


@dataclass(frozen=True, slots=True)
class Refresh:
    """What one refresh writes. `noted`: the rows of `changed_hours` that it answers, with their `change`."""

    noted: Sequence[tuple[str, int]]
    figures: dict[str, Figures]
    hours_since: str

    @property
    def day(self) -> str:
        """Return the day whose hours were noted."""
        return self.noted[0][0][:DAY]

    def write(self, connection: Connection) -> None:
        """Replace the figures of the periods, within the connection's transaction. May be repeated."""
        for period, figures in self.figures.items():
            replace_figures(connection, period, figures)
        for day in {period[:DAY] for period in self.figures if len(period) == HOUR}:
            _sum_hours(connection, day)
        _forget(connection, self.noted)
        _drop_hours(connection, self.hours_since)


def next_refresh(connection: Connection, today: date, *, before: str = _AFTER_ALL) -> Refresh | None:
    """Return the refresh of the newest day that needs one, of those before a day; None where none does.

    Also None while another service is at it.

    `connection` reads one view. Its transaction must stay open until the refresh is written: on
    PostgreSQL it holds the lock that lets one service after the other refresh.

    `today`: the day in UTC, which decides of which days the hours are kept. Reads every run of the periods concerned.
    """
    if connection.dialect.name == "postgresql":
        locked = connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _REFRESH_LOCK})
        if not locked.scalar_one():
            return None
    # The newest first: it is what people look at, while an import of old runs may keep the rest busy for minutes.
    newest = connection.execute(select(func.max(changed_hours.c.hour)).where(changed_hours.c.hour < before)).scalar()
    if newest is None:
        return None
    day = newest[:DAY]
    of_day = changed_hours.c.hour.between(day, f"{day}T99")
    noted = [
        (hour, change) for hour, change in connection.execute(select(changed_hours).where(of_day).limit(_MAX_NOTES))
    ]
    hours = {hour for hour, _ in noted}
    since = max(hours_since(connection), (today - timedelta(days=_DAYS_OF_HOURS)).isoformat())
    # Hours where they are kept; of older days one sum.
    periods = {hour if hour[:DAY] >= since else hour[:DAY] for hour in hours | hours_related(connection, hours)}
    return Refresh(noted, {period: figures_of(connection, period) for period in sorted(periods)}, since)


def hours_since(connection: Connection) -> str:
    """Return the first day whose hours are kept; "" before the first refresh."""
    fact = select(store_facts.c.value).where(store_facts.c.name == _HOURS_SINCE)
    return str(connection.execute(fact).scalar() or "")


def waiting_hours(connection: Connection, first: str = "", last: str = "9") -> int:
    """Return how many hours between two, as texts, have changed since their figures were computed."""
    counted = select(func.count(changed_hours.c.hour.distinct())).where(changed_hours.c.hour.between(first, last))
    return int(connection.execute(counted).scalar_one())


def hours_related(connection: Connection, hours: Iterable[str]) -> set[str]:
    """Return the hours of the runs around those of some hours, and of all inside them."""
    in_hours = or_(*map(in_period, hours))
    parents = set(
        connection.execute(select(_parents).select_from(_joined).where(in_hours, _parents.is_not(None))).scalars()
    )
    found = {row[0] for row in rows_with(connection, select(_hour), _runs.run_id, parents)}
    level = set(connection.execute(_with_inside.where(in_hours)).scalars())
    seen = set(level)
    while level:
        below = {*_inside(connection, level)}
        found |= {hour for _, hour in below}
        # A circle of parents ends here.
        level = {run_id for run_id, _ in below} - seen
        seen |= level
    return found


def _inside(connection: Connection, run_ids: Iterable[str]) -> set[tuple[str, str]]:
    """Return run id and hour of each run directly inside of one of these."""
    wanted = list(run_ids)
    return {
        *(tuple(row) for row in rows_with(connection, _hours_by_id, _runs.parent_run_id, wanted)),
        *(tuple(row) for row in rows_with(connection, _hours_by_spans, run_rollups.c.parent_run_id, wanted)),
    }


def _forget(connection: Connection, noted: Sequence[tuple[str, int]]) -> None:
    """Delete notes. A change that came after they were read has another number, and stays noted."""
    row = changed_hours.c
    if connection.dialect.name == "postgresql":  # a line for each change, and no index
        changes = func.any(bindparam("changes", [change for _, change in noted], type_=ARRAY(BigInteger)))
        connection.execute(delete(changed_hours).where(row.change == changes))
        return
    for hour, change in noted:
        connection.execute(delete(changed_hours).where(row.hour == hour, row.change == change))


def replace_figures(connection: Connection, period: str, figures: Figures) -> None:
    """Write the figures of one period in place of what is stored.

    Within the connection's transaction: a reader sees the old figures or the new ones.
    """
    rows: dict[Table, list[tuple[Any, ...]]] = {
        agent_periods: [(period, agent, *sums) for agent, sums in figures.agents.items()],
        duration_periods: [(agent, period, bound, runs) for (agent, bound), runs in figures.durations.items()],
        usage_periods: [(key.dimension, period, *key[1:], *sums) for key, sums in figures.usage.items()],
        work_periods: [(dimension, period, name, *work) for (dimension, name), work in figures.work.items()],
    }
    for table, values in rows.items():
        connection.execute(delete(table).where(table.c.period == period))
        if values:
            names = [column.name for column in table.c]
            connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in values])


def _hours_of(table: Table, day: str) -> ColumnElement[bool]:
    """Return the condition on the hours of a day: texts between the day and whatever follows its `T`."""
    return and_(table.c.period > day, table.c.period < f"{day}U")


def _sum_hours(connection: Connection, day: str) -> None:
    """Write the figures of a day as the sums of its hours."""
    for table in TABLES:
        connection.execute(delete(table).where(table.c.period == day))
        keys = [column for column in table.primary_key if column.name != "period"]
        sums = [column for column in table.c if not column.primary_key]
        values = [literal(day).label("period") if column.name == "period" else column for column in table.primary_key]
        summed = select(*values, *(func.sum(column) for column in sums)).where(_hours_of(table, day)).group_by(*keys)
        names = [column.name for column in (*table.primary_key, *sums)]
        connection.execute(insert(table).from_select(names, summed))


def _drop_hours(connection: Connection, since: str) -> None:
    """Drop the hours of days before `since`, once when that day moves forward."""
    # Only forward: a service whose clock is behind must not ask for hours that are gone.
    known = hours_since(connection)
    if known >= since:
        return
    for table in TABLES:
        is_hour = func.length(table.c.period) == HOUR
        connection.execute(delete(table).where(is_hour, table.c.period < since))
    connection.execute(delete(store_facts).where(store_facts.c.name == _HOURS_SINCE))
    connection.execute(insert(store_facts).values(name=_HOURS_SINCE, value=since))
