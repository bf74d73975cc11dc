"""Describe which runs a reader wants, and make the SQL conditions for it: `RunQuery` and its parts.

A condition is written so that an index serves it on SQLite and on PostgreSQL; where the two need other words,
the function that makes the condition takes the connection. Nothing here reads a run except `few_by_start`,
which reads ids. What the conditions are used for is in `queries`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import JSON, ColumnElement, Connection, and_, cast, func, literal_column, or_, select, union_all

from otel_agent_telemetry import status as st
from otel_agent_telemetry.columns import FILTERABLE_COLUMNS
from otel_agent_telemetry.storage.commit_rows import made_commit
from otel_agent_telemetry.storage.rows import Cursor
from otel_agent_telemetry.storage.statements import begins_with
from otel_agent_telemetry.storage.tables import agent_runs, run_rollups

# Up to so many runs, a listing reads them by `id` and sorts; above, it walks the index of creation times.
_FEW_RUNS: Final = 500
_runs: Final = agent_runs.c
_EQUAL: Final = tuple(name for name in FILTERABLE_COLUMNS if name not in ("status", "parent_run_id", "plumbing"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """Which runs, and how many (contract, `GET /api/v1/runs`). None is "any".

    `created_before`, `created_after`, `received_before` and `received_after` are exclusive,
    `start_time_from` and `start_time_to` inclusive, all in our form of time; `status` is a
    canonical word, `label` a name and its value, `beginning` that of a run id or an event id; `commits`
    are hashes or beginnings of them (`commit_rows`), of which the run made at least one. With `cursor`
    the page continues after that row. Without `priced` the runs have no cost, and the price list is
    not loaded. The caller has checked the values.
    """

    agent_name: str | None = None
    status: str | None = None
    job_type: str | None = None
    run_id: str | None = None
    trace_id: str | None = None
    parent_run_id: str | None = None
    host: str | None = None
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
    commits: tuple[str, ...] | None = None
    created_before: str | None = None
    created_after: str | None = None
    start_time_from: str | None = None
    start_time_to: str | None = None
    received_before: str | None = None
    received_after: str | None = None
    limit: int = 100
    offset: int = 0
    beginning: str | None = None
    cursor: Cursor | None = None
    priced: bool = True


def conditions_of(connection: Connection, query: RunQuery) -> list[ColumnElement[bool]]:
    """Return the conditions of a query, all of which a run must meet."""
    found = [_runs[name] == value for name in _EQUAL if (value := getattr(query, name)) is not None]
    if query.parent_run_id is not None:
        found.append(is_inside(query.parent_run_id))
    if query.status is not None:
        found.append(has_status(query.status))
    if query.plumbing is not None:
        found.append(is_plumbing() if query.plumbing else _runs.plumbing == literal_column("0"))
    if query.beginning is not None:
        found.append(id_begins_with(connection, query.beginning))
    if query.label is not None:
        found.append(_has_label(connection, *query.label))
    if query.commits is not None:
        found.append(made_commit(connection, query.commits))
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


def few_by_start(connection: Connection, query: RunQuery) -> list[ColumnElement[bool]]:
    """Return the condition that a run is one of those that began in the wanted time, when these are few.

    A listing is read in order of `created_at` until the page is full: at once where many
    runs began then, but through all runs where few or none did.
    """
    if not (starts := _starts(query)):
        return []
    # One more than few: with it the caller knows that there are more, and nothing else is counted.
    ids = connection.execute(select(_runs.id).where(*starts).limit(_FEW_RUNS + 1)).scalars().all()
    return [_runs.id.in_(ids)] if len(ids) <= _FEW_RUNS else []


def has_status(status: str) -> ColumnElement[bool]:
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
    # The name is quoted in the path, since names of labels have dots; requests refuse a name with a quote.
    return func.json_extract(labels, f'$."{name}"') == value


def is_inside(run_id: str) -> ColumnElement[bool]:
    """Return the condition that a run's parent is `run_id`, by its own state or found from its spans."""
    by_state = select(_runs.id).where(_runs.parent_run_id == run_id)
    by_spans = (
        select(_runs.id)
        .join(run_rollups, run_rollups.c.event_id == _runs.event_id)
        .where(run_rollups.c.parent_run_id == run_id, _runs.parent_run_id.is_(None))
    )
    return _runs.id.in_(union_all(by_state, by_spans))  # not OR: PostgreSQL would read every run


def older_than(cursor: Cursor) -> ColumnElement[bool]:
    """Return the condition for the rows after a cursor, in the order newest first.

    The first comparison repeats what the second implies: it is the one that an index can serve.
    """
    return and_(
        _runs.created_at <= cursor.time,
        or_(_runs.created_at < cursor.time, _runs.id < cursor.id),
    )


def newer_than(cursor: Cursor) -> ColumnElement[bool]:
    """Return the condition for the rows before a cursor; see `older_than`."""
    return and_(
        _runs.created_at >= cursor.time,
        or_(_runs.created_at > cursor.time, _runs.id > cursor.id),
    )


def id_begins_with(connection: Connection, prefix: str) -> ColumnElement[bool]:
    """Return the condition that a run's event id or run id begins with a text; case counts."""
    return begins_with(connection, _runs.event_id, prefix) | begins_with(connection, _runs.run_id, prefix)
