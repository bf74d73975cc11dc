"""Read runs. Each function takes a connection from `engine.reading` and returns values.

Listings go newest `created_at` first, then newest row first; a page continues after the
`(created_at, id)` of the last run of the page before, so that a deep page costs what the
first costs. Texts of times compare as instants, because they have one form (`clock`).

Runs are read with their roll-ups (`steps`) and their cost (`pricing`), except by `own_state`,
`own_states` and `iter_open_runs`: what is written back must be the run's own state. Numbers over
many runs are in `audit_queries`, counts in `counts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import JSON, ColumnElement, Connection, Select, and_, cast, func, literal_column, or_, select, union_all

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import COLUMNS, FILTERABLE_COLUMNS, INTEGER_COLUMNS, TOTAL_COLUMNS
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.run_totals import totals_in
from otel_agent_telemetry.storage.counts import count_by, count_since
from otel_agent_telemetry.storage.pricing import with_cost
from otel_agent_telemetry.storage.rollups import rollups_of, with_rollup
from otel_agent_telemetry.storage.rows import Cursor, clean_text, record_of
from otel_agent_telemetry.storage.statements import by_code_point, count_rows, rows_with
from otel_agent_telemetry.storage.tables import agent_runs, commits, run_rollups

_NO_TOTALS: Final[dict[str, Any]] = {name: 0 if name in INTEGER_COLUMNS else None for name in TOTAL_COLUMNS}
_ROWS_AT_A_TIME: Final = 500
# Up to so many runs, a listing reads them by `id` and sorts; above, it walks the index of creation times.
_FEW_RUNS: Final = 500
MAX_COUNTED: Final = 100_000
PLUMBING_HEADER: Final = "Agent-Telemetry-Plumbing"
"""Header of a service's listing without plumbing: how many runs of plumbing meet its other conditions."""
_DAY_NS: Final = 86_400 * 1_000_000_000
_LAST_CHARACTER: Final = "\U0010ffff"
_runs: Final = agent_runs.c
_columns: Final = (*(_runs[name] for name in COLUMNS), _runs.id)
_states: Final = select(*_columns[:-1])
_EQUAL: Final = tuple(name for name in FILTERABLE_COLUMNS if name not in ("status", "parent_run_id", "plumbing"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """Which runs, and how many (contract, `GET /api/v1/runs`). None is "any".

    `created_before`, `created_after`, `received_before` and `received_after` are exclusive,
    `start_time_from` and `start_time_to` inclusive, all in our form of time; `status` is a
    canonical word, `label` a name and its value. With `cursor` the page continues after that row.
    Without `priced` the runs have no cost, and the price list is not loaded. The caller has
    checked the values.
    """

    agent_name: str | None = None
    status: str | None = None
    job_type: str | None = None
    run_id: str | None = None
    trace_id: str | None = None
    parent_run_id: str | None = None
    environment: str | None = None
    service_name: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    agent_version: str | None = None
    change_id: str | None = None
    start_commit: str | None = None
    model: str | None = None
    plumbing: bool | None = None
    label: tuple[str, str] | None = None
    created_before: str | None = None
    created_after: str | None = None
    start_time_from: str | None = None
    start_time_to: str | None = None
    received_before: str | None = None
    received_after: str | None = None
    limit: int = 100
    offset: int = 0
    cursor: Cursor | None = None
    priced: bool = True


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
    selected = select(*_columns).where(*_conditions(connection, query), *_few_by_start(connection, query))
    if query.cursor is not None:
        selected = selected.where(_older_than(query.cursor))
    page = _newest_first(selected).limit(query.limit).offset(query.offset)
    return _as_read(connection, _stored(connection, page), priced=query.priced)


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


def count_plumbing(connection: Connection, query: RunQuery) -> int:
    """Return how many runs of plumbing meet the other conditions of a query; at most MAX_COUNTED are counted."""
    wanted = replace(query, plumbing=True)
    selected = select(_runs.id).where(*_conditions(connection, wanted)).limit(MAX_COUNTED)
    return count_rows(connection, selected.subquery())


def oldest_open(connection: Connection) -> str | None:
    """Return when the oldest run that has not ended was created; costs the same at any number of runs."""
    oldest: str | None = connection.execute(
        select(_runs.created_at).where(is_running()).order_by(_runs.created_at).limit(1)
    ).scalar()
    return oldest


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


def children_of(connection: Connection, run_id: str) -> list[RunRecord]:
    """Return the runs whose `parent_run_id` is this `run_id`, oldest first."""
    selected = select(*_columns).where(_is_inside(run_id)).order_by(_runs.created_at, _runs.id)
    return [run.record for run in _as_read(connection, _stored(connection, selected))]


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
        page = selected if last is None else selected.where(_newer_than(last.cursor))
        runs = _stored(connection, page.order_by(_runs.created_at, _runs.id).limit(_ROWS_AT_A_TIME))
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
    wanted = clean_text(prefix)
    begins = [_begins(connection, column, wanted) for column in (_runs.event_id, _runs.run_id)]
    return _read(connection, begins[0] | begins[1], limit)


def values_of(connection: Connection, column: str, *, limit: int) -> list[str]:
    """Return the distinct values of a column of the runs, in order, at most `limit`. Reads every run."""
    selected = select(_runs[column]).where(_runs[column].is_not(None)).distinct().order_by(_runs[column]).limit(limit)
    return [str(value) for value in connection.execute(selected).scalars()]


def last_association(connection: Connection, run_id: str) -> str | None:
    """Return `associated_at` of a run's latest commit association, None when it has none."""
    latest = select(func.max(commits.c.associated_at)).where(commits.c.run_id == clean_text(run_id))
    return connection.execute(latest).scalar()


def _conditions(connection: Connection, query: RunQuery) -> list[ColumnElement[bool]]:
    """Return the conditions of a query, all of which a run must meet."""
    found = [_runs[name] == value for name in _EQUAL if (value := getattr(query, name)) is not None]
    if query.parent_run_id is not None:
        found.append(_is_inside(query.parent_run_id))
    if query.status is not None:
        found.append(_has_status(query.status))
    if query.plumbing is not None:
        found.append(is_plumbing() if query.plumbing else _runs.plumbing == literal_column("0"))
    if query.label is not None:
        found.append(_has_label(connection, *query.label))
    bounds = (
        (_runs.created_at.__lt__, query.created_before),
        (_runs.created_at.__gt__, query.created_after),
        (_runs.received_at.__lt__, query.received_before),
        (_runs.received_at.__gt__, query.received_after),
    )
    return [*found, *(compare(value) for compare, value in bounds if value is not None), *_starts(query)]


def _starts(query: RunQuery) -> list[ColumnElement[bool]]:
    """Return the conditions on the start time."""
    bounds = ((_runs.start_time.__ge__, query.start_time_from), (_runs.start_time.__le__, query.start_time_to))
    return [compare(value) for compare, value in bounds if value is not None]


def _few_by_start(connection: Connection, query: RunQuery) -> list[ColumnElement[bool]]:
    """Return the condition that a run is one of those that began in the wanted time, when these are few.

    A listing is read in order of `created_at` until the page is full: at once where many
    runs began then, but through all runs where few or none did.
    """
    if not (starts := _starts(query)):
        return []
    ids = connection.execute(select(_runs.id).where(*starts).limit(_FEW_RUNS + 1)).scalars().all()
    return [_runs.id.in_(ids)] if len(ids) <= _FEW_RUNS else []


def _has_status(status: str) -> ColumnElement[bool]:
    """Return the condition that a run has a status, in words that the partial indexes serve."""
    if status == st.RUNNING:
        return is_running()
    is_status = _runs.status == status
    if status == st.SUCCESS:
        return is_status
    return and_(is_status, *(_runs.status != literal_column(f"'{word}'") for word in (st.RUNNING, st.SUCCESS)))


def is_running() -> ColumnElement[bool]:
    """Return the condition that a run has not ended."""
    # A literal: with a parameter the partial index would not be used.
    return _runs.status == literal_column("'running'")


def is_plumbing() -> ColumnElement[bool]:
    """Return the condition that a run is plumbing."""
    # A literal, as in `is_running`.
    return _runs.plumbing == literal_column("1")


def _has_label(connection: Connection, name: str, value: str) -> ColumnElement[bool]:
    """Return the condition that a run has a label with this value."""
    labels: ColumnElement[Any] = _runs.labels
    if connection.dialect.name == "postgresql":
        return and_(labels.is_not(None), cast(labels, JSON).op("->>")(name) == value)
    return func.json_extract(labels, f'$."{name}"') == value


def _is_inside(run_id: str) -> ColumnElement[bool]:
    """Return the condition that a run's parent is `run_id`, by its own state or found from its spans."""
    by_state = select(_runs.id).where(_runs.parent_run_id == run_id)
    by_spans = (
        select(_runs.id)
        .join(run_rollups, run_rollups.c.event_id == _runs.event_id)
        .where(run_rollups.c.parent_run_id == run_id, _runs.parent_run_id.is_(None))
    )
    return _runs.id.in_(union_all(by_state, by_spans))  # not OR: PostgreSQL would read every run


def _newest_first(selected: Select[Any]) -> Select[Any]:
    """Return the statement in the order of listings; `id` decides between runs of one instant."""
    return selected.order_by(_runs.created_at.desc(), _runs.id.desc())


def _older_than(cursor: Cursor) -> ColumnElement[bool]:
    """Return the condition for the rows after a cursor, in the order newest first.

    The first comparison repeats what the second implies: it is the one that an index can serve.
    """
    return and_(
        _runs.created_at <= cursor.time,
        or_(_runs.created_at < cursor.time, _runs.id < cursor.id),
    )


def _newer_than(cursor: Cursor) -> ColumnElement[bool]:
    """Return the condition for the rows before a cursor; see `_older_than`."""
    return and_(
        _runs.created_at >= cursor.time,
        or_(_runs.created_at > cursor.time, _runs.id > cursor.id),
    )


def _as_read(connection: Connection, runs: list[StoredRun], *, priced: bool = True) -> list[StoredRun]:
    """Return the runs as they are read: with what their spans add up to and, when `priced`, what they cost."""
    rollups = rollups_of(connection, [run.record.event_id for run in runs if run.record.trace_id])
    shown = [StoredRun(run.id, with_rollup(run.record, rollups.get(run.record.event_id))) for run in runs]
    return [StoredRun(run.id, with_cost(run.record)) for run in shown] if priced else shown


def _stored(connection: Connection, selected: Select[Any]) -> list[StoredRun]:
    """Return the rows of a statement as runs with their `id`."""
    return [StoredRun(row[-1], record_of(tuple(row[:-1]))) for row in connection.execute(selected)]


def _begins(connection: Connection, column: ColumnElement[Any], prefix: str) -> ColumnElement[bool]:
    """Return the condition that a column begins with a text."""
    # A range is served by an index; LIKE would read every row.
    if connection.dialect.name != "sqlite":
        column = by_code_point(column, connection.dialect)
    return column.between(prefix, prefix + _LAST_CHARACTER)


def _read(connection: Connection, condition: ColumnElement[bool], limit: int) -> list[RunRecord]:
    """Return the newest runs that meet a condition, as they are shown."""
    selected = _newest_first(select(*_columns).where(condition)).limit(limit)
    return [run.record for run in _as_read(connection, _stored(connection, selected))]
