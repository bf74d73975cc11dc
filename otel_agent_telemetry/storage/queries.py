"""Read runs. Each function takes a connection from `engine.reading` and returns values.

Listings go newest `created_at` first, then newest row first; a page continues after the
`(created_at, id)` of the last run of the page before, so that a deep page costs what the
first costs. Texts of times compare as instants, because they have one form (`clock`).

Runs are read with their roll-ups (`steps`) and their cost (`pricing`), except by `own_state`,
`own_states` and `iter_open_runs`: what is written back must be the run's own state. Conditions are in
`run_filters`, counts of runs in `run_stats`, figures over many runs in `audit_queries`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, select

from otel_agent_telemetry.columns import COLUMNS, INTEGER_COLUMNS, TOTAL_COLUMNS
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.run_id import is_derived
from otel_agent_telemetry.run_totals import totals_in
from otel_agent_telemetry.status import RUNNING
from otel_agent_telemetry.storage.pricing import cost_by_columns, with_cost
from otel_agent_telemetry.storage.rollups import metrics_with, rollups_of, with_rollup
from otel_agent_telemetry.storage.rows import Cursor, clean_text, record_of
from otel_agent_telemetry.storage.run_filters import (
    RunQuery,
    conditions_of,
    few_by_start,
    id_begins_with,
    is_inside,
    is_running,
    newer_than,
    older_than,
)
from otel_agent_telemetry.storage.statements import count_rows, rows_with
from otel_agent_telemetry.storage.tables import agent_runs, commits, run_rollups

_NO_TOTALS: Final[dict[str, Any]] = {name: 0 if name in INTEGER_COLUMNS else None for name in TOTAL_COLUMNS}
_ROWS_AT_A_TIME: Final = 500
MAX_COUNTED: Final = 100_000
PLUMBING_HEADER: Final = "Agent-Telemetry-Plumbing"
"""Header of a service's listing without plumbing: how many runs of plumbing meet its other conditions."""
_runs: Final = agent_runs.c
_columns: Final = (*(_runs[name] for name in COLUMNS), _runs.id)
_states: Final = select(*_columns[:-1])
_COST_COLUMNS: Final = (_runs.id, _runs.event_id, _runs.trace_id, _runs.metrics_json, _runs.start_time, _runs.cost_usd)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run and its number in this database, which no other database shares."""

    id: int
    record: RunRecord

    @property
    def cursor(self) -> Cursor:
        """Return the run's place in a listing."""
        return Cursor(self.record.created_at, self.id)


def list_runs(connection: Connection, query: RunQuery) -> list[RunRecord]:
    """Return the runs that a query asks for, newest first."""
    return [run.record for run in page_of_runs(connection, query)]


def page_of_runs(connection: Connection, query: RunQuery) -> list[StoredRun]:
    """Return the same with their ids; the last one's `cursor` continues with the next page."""
    selected = select(*_columns).where(*conditions_of(connection, query), *few_by_start(connection, query))
    if query.cursor is not None:
        selected = selected.where(older_than(query.cursor))
    page = _newest_first(selected).limit(query.limit).offset(query.offset)
    return _as_read(connection, _stored(connection, page), priced=query.priced)


def count_plumbing(connection: Connection, query: RunQuery) -> int:
    """Return how many runs of plumbing meet the other conditions of a query; at most MAX_COUNTED are counted."""
    return count_runs(connection, replace(query, plumbing=True))


def count_runs(connection: Connection, query: RunQuery) -> int:
    """Return how many runs meet the conditions of a query; at most MAX_COUNTED are counted."""
    selected = select(_runs.id).where(*conditions_of(connection, query)).limit(MAX_COUNTED)
    return count_rows(connection, selected.subquery())


def find_run(connection: Connection, *, run_id: str | None = None, event_id: str | None = None) -> StoredRun | None:
    """Return the run with all the ids given; of several the one with the latest `created_at`."""
    wanted = [column == value for column, value in ((_runs.event_id, event_id), (_runs.run_id, run_id)) if value]
    if not wanted:
        return None
    found = _stored(connection, _newest_first(select(*_columns).where(*wanted)).limit(1))
    return next(iter(_as_read(connection, found)), None)


def get_run(connection: Connection, *, run_id: str | None = None, event_id: str | None = None) -> RunRecord | None:
    """Return the record of `find_run`."""
    found = find_run(connection, run_id=run_id, event_id=event_id)
    return None if found is None else found.record


def own_state(connection: Connection, event_id: str) -> RunRecord | None:
    """Return the run's own state, without its roll-up: what may be changed and written back.

    Within the transaction that writes it: on PostgreSQL the row is locked from here on.
    """
    found = _stored(connection, select(*_columns).where(_runs.event_id == event_id).with_for_update())
    return _own(found[0].record) if found else None


def own_states(connection: Connection, event_ids: Iterable[str]) -> list[RunRecord]:
    """Return the runs' own states, without their roll-ups, in no order; nothing is locked."""
    rows = rows_with(connection, _states, _runs.event_id, event_ids)
    return [_own(record_of(tuple(row))) for row in rows]


def _own(record: RunRecord) -> RunRecord:
    """Return a row's record with the totals of its own state alone."""
    return replace(record, **{**_NO_TOTALS, **totals_in(record.metrics_json)})


def children_of(connection: Connection, run_id: str, *, limit: int | None = None) -> list[RunRecord]:
    """Return the runs whose `parent_run_id` is this `run_id`, oldest first, at most `limit` of them."""
    selected = select(*_columns).where(is_inside(run_id)).order_by(_runs.created_at, _runs.id).limit(limit)
    return [run.record for run in _as_read(connection, _stored(connection, selected))]


def runs_of_session(connection: Connection, session_id: str, *, after: Cursor | None, limit: int) -> list[StoredRun]:
    """Return the runs of a session, oldest first, after a place in that order; at most `limit`."""
    selected = select(*_columns).where(_runs.session_id == session_id)
    if after is not None:
        selected = selected.where(newer_than(after))
    ordered = selected.order_by(_runs.created_at, _runs.id).limit(limit)
    return _as_read(connection, _stored(connection, ordered))


def runs_numbered(connection: Connection, numbers: Sequence[int]) -> list[StoredRun]:
    """Return the runs with these numbers, in no order; those that are gone are left out. Reads some at a time."""
    found: list[StoredRun] = []
    for start in range(0, len(numbers), _ROWS_AT_A_TIME):
        wanted = numbers[start : start + _ROWS_AT_A_TIME]
        found += _as_read(connection, _stored(connection, select(*_columns).where(_runs.id.in_(wanted))))
    return found


def costs_numbered(connection: Connection, numbers: Sequence[int]) -> dict[int, float]:
    """Return number → cost of those of these runs whose cost is known, as `runs_numbered` gives it."""
    found: dict[int, float] = {}
    for start in range(0, len(numbers), _ROWS_AT_A_TIME):
        wanted = _runs.id.in_(numbers[start : start + _ROWS_AT_A_TIME])
        rows = connection.execute(select(*_COST_COLUMNS).where(wanted)).all()
        # A record of all columns for each of hundreds of runs takes longer than their prices.
        rollups = rollups_of(connection, [row.event_id for row in rows if _may_have_rollup(row.event_id, row.trace_id)])
        for row in rows:
            metrics = metrics_with(row.metrics_json, rollups.get(row.event_id))
            cost = cost_by_columns(metrics, row.start_time, row.cost_usd)
            if cost is not None:
                found[row.id] = cost
    return found


def ended_among(connection: Connection, event_ids: Sequence[str]) -> list[StoredRun]:
    """Return those of these runs that have ended, in no order; a few hundred can be asked for."""
    if not event_ids:
        return []
    wanted = [clean_text(event_id) for event_id in event_ids]
    selected = select(*_columns).where(_runs.event_id.in_(wanted), _runs.status != RUNNING)
    return _as_read(connection, _stored(connection, selected))


def runs_inside(connection: Connection, run_ids: Iterable[str], *, limit: int) -> list[RunRecord]:
    """Return the runs whose parent has one of these run ids, as they are read, in no order, at most `limit`."""
    wanted = list(run_ids)
    rollup = run_rollups.c
    by_spans = select(*_columns).join(run_rollups, rollup.event_id == _runs.event_id)
    rows = [
        *rows_with(connection, select(*_columns).limit(limit), _runs.parent_run_id, wanted),
        *rows_with(
            connection, by_spans.where(_runs.parent_run_id.is_(None)).limit(limit), rollup.parent_run_id, wanted
        ),
    ]
    found = [StoredRun(row[-1], record_of(tuple(row[:-1]))) for row in rows[:limit]]
    return [run.record for run in _as_read(connection, found)]


def iter_open_runs(connection: Connection, *, older_than: str | None = None) -> Iterator[RunRecord]:
    """Yield the runs that have not ended, oldest first; with `older_than` those whose last state is older.

    Reads a few hundred at a time, so the caller may take as long as it likes and write
    between them through another connection.
    """
    selected = select(*_columns).where(is_running())
    if older_than is not None:
        selected = selected.where(_runs.updated_at < older_than)
    last: StoredRun | None = None
    while True:
        page = selected if last is None else selected.where(newer_than(last.cursor))
        runs = _stored(connection, page.order_by(_runs.created_at, _runs.id).limit(_ROWS_AT_A_TIME))
        # No cursor of the database stays open over the `yield`: SQLite would keep its writers waiting.
        yield from (_own(run.record) for run in runs)
        if len(runs) < _ROWS_AT_A_TIME:
            return
        last = runs[-1]


def runs_named(connection: Connection, name: str, *, limit: int) -> list[RunRecord]:
    """Return the runs whose `run_id` or `event_id` is exactly this, newest first, at most `limit`."""
    wanted = clean_text(name)
    return _read(connection, (_runs.event_id == wanted) | (_runs.run_id == wanted), limit)


def runs_beginning(connection: Connection, prefix: str, *, limit: int) -> list[RunRecord]:
    """Return the runs whose `run_id` or `event_id` begins so, newest first, at most `limit`.

    Case-sensitive.
    """
    if not prefix:
        return []
    return _read(connection, id_begins_with(connection, clean_text(prefix)), limit)


def values_of(connection: Connection, column: str, *, limit: int) -> list[str]:
    """Return the distinct values of a column of the runs, in order, at most `limit`. Reads every run."""
    selected = select(_runs[column]).where(_runs[column].is_not(None)).distinct().order_by(_runs[column]).limit(limit)
    return [str(value) for value in connection.execute(selected).scalars()]


def last_association(connection: Connection, run_id: str) -> str | None:
    """Return `associated_at` of a run's latest commit association, None when it has none."""
    latest = select(func.max(commits.c.associated_at)).where(commits.c.run_id == clean_text(run_id))
    return connection.execute(latest).scalar()


def _newest_first(selected: Select[Any]) -> Select[Any]:
    """Return the statement in the order of listings; `id` decides between runs of one instant."""
    return selected.order_by(_runs.created_at.desc(), _runs.id.desc())


def _as_read(connection: Connection, runs: list[StoredRun], *, priced: bool = True) -> list[StoredRun]:
    """Return the runs as they are read: with what their spans add up to and, when `priced`, what they cost."""
    records = (run.record for run in runs)
    rollups = rollups_of(
        connection, [record.event_id for record in records if _may_have_rollup(record.event_id, record.trace_id)]
    )
    shown = [StoredRun(run.id, with_rollup(run.record, rollups.get(run.record.event_id))) for run in runs]
    return [StoredRun(run.id, with_cost(run.record)) for run in shown] if priced else shown


def _may_have_rollup(event_id: str, trace_id: str | None) -> bool:
    """Return whether a run can have a roll-up to look for: one with neither spans nor log records has none."""
    return bool(trace_id) or is_derived(event_id)


def _stored(connection: Connection, selected: Select[Any]) -> list[StoredRun]:
    """Return the rows of a statement as runs with their `id`."""
    return [StoredRun(row[-1], record_of(tuple(row[:-1]))) for row in connection.execute(selected)]


def _read(connection: Connection, condition: ColumnElement[bool], limit: int) -> list[RunRecord]:
    """Return the newest runs that meet a condition, as they are shown."""
    selected = _newest_first(select(*_columns).where(condition)).limit(limit)
    return [run.record for run in _as_read(connection, _stored(connection, selected))]
