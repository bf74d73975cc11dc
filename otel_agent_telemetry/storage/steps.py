"""Events and child spans of runs that reached a service over OTLP, and what the spans of a run add up to.

The same span or event again is a no-op. They may come before their run, or without one: which
run they belong to is found by `traces`.

A *roll-up* is kept beside a run's own state and joined to it when the run is read. Roll-ups
stand outside the order of states (`model.order_key`): a state never carries them, so no state
can win or lose by what happened to have arrived before it.

Owns the tables `run_events`, `run_spans` and `run_rollups`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Dialect, Table, bindparam, delete, func, or_, select, tuple_

from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.storage.rows import Cursor, Row, clean_text
from otel_agent_telemetry.storage.run_sums import READ, metrics_as_read, refresh_sqlite, write_changes
from otel_agent_telemetry.storage.statements import (
    Statement,
    compile_statement,
    driver_connection,
    insert_into,
    rows_with,
)
from otel_agent_telemetry.storage.tables import (
    NO_WRITER,
    STEP_HAS_NO_LINE,
    UNKNOWN_START,
    run_events,
    run_rollups,
    run_spans,
)
from otel_agent_telemetry.usage import Usage, added, is_call, summed
from otel_agent_telemetry.wire import dumps_text, load_object

T = TypeVar("T")

_EVENT_COLUMNS: Final = tuple(column.name for column in run_events.c if column.name != "id")
SPAN_COLUMNS: Final = tuple(column.name for column in run_spans.c if column.name != "id")
_NOT_IN_SPAN: Final = frozenset(
    {"attributes_json", "is_run", "usage_json", "start_ns", "parent_start", "writer", "writer_seq"}
)
_SPAN_FIELDS: Final = tuple(name for name in SPAN_COLUMNS if name not in _NOT_IN_SPAN)
_PLAIN: Final = '{"steps":1}'
_ROLLUP_COLUMNS: Final = ("event_id", "parent_run_id", "usage_json")

INSIDE_CALL: Final = "inside_call"
"""The member of a step's `usage_json` that says that the step is inside a model call of its run."""
NO_RUN: Final = ""
"""`event_id` of an event or span whose run is not known yet."""


SERVICE: Final = "service"
"""The member of a step's `usage_json` that names its service, where its run was not known when it came."""
IS_RUN: Final = 1
IS_PART: Final = 2
"""`is_run` of an agent's span that only repeats the run around it, whose step it is."""


class Agent(NamedTuple):
    """What an agent's span, or a run's own span, says of its agent (`span_agents`).

    `name`: what it calls its agent, None for nothing. `run_name`: the name that an agent inside
    repeats. `takes_child_name`: whether the run is called as the first agent inside it, which
    `adopted` is then.
    """

    name: str | None
    run_name: str
    takes_child_name: bool
    adopted: str | None = None


class EventRow(NamedTuple):
    """An event, its number among the events of its span, from 0, and when that span began; or the line that it was.

    `writer` and `writer_seq` name the line of a journal; what came over OTLP has none.
    """

    seq: int
    event: RunEvent
    span_start_ns: int = UNKNOWN_START
    writer: str = NO_WRITER
    writer_seq: int = 0


class SpanRow(NamedTuple):
    """A span, whether it is a run itself, what it used as a step, and when it began.

    `parent_start`: `start_time` of its parent, where it is certain which span that is. `writer` and
    `writer_seq` name the line of a journal that this state of the span was, `became_run` the id of
    the run that it says the step has turned into.
    """

    span: RunSpan
    is_run: bool = False
    usage: Mapping[str, Any] = {}
    start_ns: int = UNKNOWN_START
    parent_start: str | None = None
    writer: str = NO_WRITER
    writer_seq: int = 0
    became_run: str | None = None


class Page(NamedTuple):
    """At most `limit` rows, those after a cursor; None is from the beginning."""

    limit: int
    after: Cursor | None = None


class PageOf(list[T]):
    """The items of a page; `next_cursor` continues after them, None when there are no more."""

    def __init__(self, items: Iterable[T], next_cursor: Cursor | None = None) -> None:
        super().__init__(items)
        self.next_cursor = next_cursor


def add_events(connection: Connection, events: Sequence[EventRow]) -> None:
    """Write events; one of the same span and number that is stored already stays as it is."""
    rows = [_event_row(event) for event in events]
    _insert_events(connection.dialect).execute(connection, _EVENT_COLUMNS, rows)


def add_spans(connection: Connection, spans: Sequence[SpanRow]) -> None:
    """Write spans; one that is stored already stays as it is."""
    _insert_spans(connection.dialect).execute(connection, SPAN_COLUMNS, [span_row(span) for span in spans])


def delete_spans(connection: Connection, identities: Iterable[tuple[str, str, int]]) -> None:
    """Delete spans by `(trace_id, span_id, start_ns)`; what was counted of them stays counted."""
    columns = run_spans.c
    by_identity = (
        columns.trace_id == bindparam("t"),
        columns.span_id == bindparam("s"),
        columns.start_ns == bindparam("n"),
    )
    keys = [{"t": trace_id, "s": span_id, "n": start_ns} for trace_id, span_id, start_ns in identities]
    connection.execute(delete(run_spans).where(*by_identity), keys)


def events_of(connection: Connection, event_id: str, page: Page | None = None) -> PageOf[RunEvent]:
    """Return a run's events, oldest first; without a page all of them."""
    rows, next_cursor = _read_page(connection, run_events, run_events.c.timestamp, event_id, page)
    events = [
        RunEvent(
            event_id=row.event_id,
            run_id=row.run_id,
            event_type=row.event_type,
            timestamp=row.timestamp,
            payload=_loaded(row.payload_json),
            trace_id=row.trace_id,
            span_id=row.span_id or None,
        )
        for row in rows
    ]
    return PageOf(events, next_cursor)


def spans_of(connection: Connection, event_id: str, page: Page | None = None) -> PageOf[RunSpan]:
    """Return a run's steps, in order of their start; without a page all of them."""
    # A step of a journal that has turned into a run is that run, and no step.
    is_step = or_(run_spans.c.is_run != IS_RUN, STEP_HAS_NO_LINE)
    rows, next_cursor = _read_page(connection, run_spans, run_spans.c.start_time, event_id, page, is_step)
    spans = [
        RunSpan(
            **{name: row._mapping[name] for name in _SPAN_FIELDS},  # noqa: SLF001 - SQLAlchemy's own name for it
            attributes=_loaded(row.attributes_json) or {},
        )
        for row in rows
    ]
    return PageOf(spans, next_cursor)


def _read_page(
    connection: Connection,
    table: Table,
    time: ColumnElement[str],
    event_id: str,
    page: Page | None,
    *conditions: ColumnElement[bool],
) -> tuple[Sequence[Any], Cursor | None]:
    """Return the rows of a page, in order of `time`, and the cursor of the next page if there is one."""
    selected = select(table).where(table.c.event_id == event_id, *conditions).order_by(time, table.c.id)
    if page is None:
        return connection.execute(selected).all(), None
    if page.after is not None:
        selected = selected.where(tuple_(time, table.c.id) > page.after)
    rows = connection.execute(selected.limit(page.limit + 1)).all()  # one more shows whether there is a next page
    if len(rows) <= page.limit:
        return rows, None
    last = rows[page.limit - 1]
    return rows[: page.limit], Cursor(last._mapping[time], last.id)  # noqa: SLF001 - as above


def _loaded(text: str | None) -> Any:
    """Return the value of a JSON column."""
    return None if text is None else json.loads(text)


def _dumped(value: Any) -> str | None:
    """Return a value as the text of a JSON column; None stays None."""
    return None if value is None else dumps_text(value)


def _event_row(row: EventRow) -> Row:
    """Return an event in the order of its columns."""
    event = row.event
    values = {
        "payload_json": _dumped(event.payload),
        "seq": row.seq,
        "span_id": event.span_id or "",
        "span_start_ns": row.span_start_ns,
        "writer": row.writer,
        "writer_seq": row.writer_seq,
    }
    return tuple(clean_text(values[name] if name in values else getattr(event, name)) for name in _EVENT_COLUMNS)


def span_row(row: SpanRow) -> Row:
    """Return a span in the order of its columns."""
    span = row.span
    values = {
        "attributes_json": _dumped(dict(span.attributes)),
        "is_run": int(row.is_run),
        "usage_json": _dumped(dict(row.usage)) if row.usage else None,
        "start_ns": row.start_ns,
        "parent_start": row.parent_start,
        "writer": row.writer,
        "writer_seq": row.writer_seq,
    }
    return tuple(clean_text(values[name] if name in values else getattr(span, name)) for name in SPAN_COLUMNS)


@lru_cache(maxsize=8)
def _insert_events(dialect: Dialect) -> Statement:
    """Return the statement that adds events; those that are stored stay as they are."""
    # Exporters send a batch again when its answer is lost (OTLP), so repeated rows are normal and change nothing.
    return compile_statement(insert_into(run_events, dialect).on_conflict_do_nothing(), dialect, _EVENT_COLUMNS)


@lru_cache(maxsize=8)
def _insert_spans(dialect: Dialect) -> Statement:
    """Return the statement that adds spans; those that are stored stay as they are."""
    return compile_statement(insert_into(run_spans, dialect).on_conflict_do_nothing(), dialect, SPAN_COLUMNS)


@dataclass(frozen=True, slots=True)
class Rollup:
    """What is known of a run from its spans: the run it is part of, and two usages.

    `own` is what the run's own span reports of the whole, `steps` the sum over its steps. Of a
    run by an agent `agent` is what its span says; of one that can turn out to be a step of the
    run around it, `state` is its state, and `is_part` whether it has.
    """

    parent_run_id: str | None = None
    own: Usage = field(default_factory=dict)
    steps: Usage = field(default_factory=dict)
    agent: Agent | None = None
    state: dict[str, Any] | None = None
    is_part: bool = False

    def row(self, event_id: str) -> Row:
        """Return the values of `_ROLLUP_COLUMNS`."""
        members: dict[str, Any] = {"own": self.own, "steps": self.steps}
        if self.agent is not None:
            members["agent"] = self.agent
        if self.state is not None:
            members["state"] = self.state
        if self.is_part:
            members["is_part"] = True
        return event_id, self.parent_run_id, dumps_text(members)


def add_to_rollups(
    connection: Connection,
    *,
    steps: Mapping[str, Sequence[Usage]],
    own: Mapping[str, Usage],
    parents: Mapping[str, str],
) -> None:
    """Add the usage of steps to runs, and set runs' own usage and parents; all by `event_id`."""
    changed = steps.keys() | parents.keys() | {event_id for event_id, usage in own.items() if usage}
    if not changed:
        return
    stored = rollups_of(connection, changed)
    rows = []
    for event_id in sorted(changed):  # one locking order: two writers never deadlock
        before = stored.get(event_id, Rollup())
        now = replace(
            before,
            parent_run_id=parents.get(event_id) or before.parent_run_id,
            own=own.get(event_id) or before.own,
            steps=added([before.steps, *steps.get(event_id, ())]),
        )
        if now != before:  # a repeated request writes nothing
            rows.append(now.row(event_id))
    _upsert_rollups(connection.dialect).execute(connection, _ROLLUP_COLUMNS, rows)
    refresh_sums(connection, [row[0] for row in rows])


def add_agents(
    connection: Connection,
    agents: Mapping[str, Agent],
    parts: Mapping[str, bool],
    states: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Note what is known of the agents of runs, whether they are steps, and their states; all by `event_id`."""
    changed = agents.keys() | parts.keys() | states.keys()
    if not changed:
        return
    stored = rollups_of(connection, changed)
    rows = []
    for event_id in sorted(changed):
        before = stored.get(event_id, Rollup())
        state = states.get(event_id, before.state)
        now = replace(
            before,
            agent=agents.get(event_id, before.agent),
            state=dict(state) if state is not None else None,
            is_part=parts.get(event_id, before.is_part),
        )
        if now != before:
            rows.append(now.row(event_id))
    _upsert_rollups(connection.dialect).execute(connection, _ROLLUP_COLUMNS, rows)


def recount_rollups(connection: Connection, event_ids: Iterable[str], parents: Mapping[str, str | None]) -> None:
    """Sum the steps of these runs anew, and set parents again, None where none is known any more.

    For runs with model calls inside model calls, and for spans that have found another run,
    which happens only where span ids repeat.
    """
    recounted = set(event_ids)
    rows_of_run: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows_with(connection, _counted, run_spans.c.event_id, recounted):
        rows_of_run[row.event_id].append(row)
    changed = recounted | parents.keys()
    stored = rollups_of(connection, changed)
    rows = []
    for event_id in sorted(changed):
        before = stored.get(event_id, Rollup())
        steps = _used_by_steps(rows_of_run[event_id]) if event_id in recounted else before.steps
        parent = parents.get(event_id) if event_id in parents else before.parent_run_id
        rows.append(replace(before, parent_run_id=parent, steps=steps).row(event_id))
    _replace_rollups(connection.dialect).execute(connection, _ROLLUP_COLUMNS, rows)
    refresh_sums(connection, [row[0] for row in rows])


def refresh_sums(connection: Connection, event_ids: Iterable[str]) -> None:
    """Set the totals of those of these runs that have a roll-up and are stored (`run_sums`)."""
    wanted = sorted(event_ids)  # one locking order: two writers never deadlock
    if not wanted:
        return
    if connection.dialect.name == "sqlite":
        refresh_sqlite(driver_connection(connection), wanted)
        return
    selected = f"{READ} = ANY(%s) ORDER BY r.event_id"
    rows = connection.exec_driver_sql(selected, (wanted,)).all()
    write_changes(map(tuple, rows), connection.exec_driver_sql, "%s")


_counted: Final = select(
    *(run_spans.c.event_id, run_spans.c.span_id, run_spans.c.parent_span_id, run_spans.c.start_time),
    *(run_spans.c.parent_start, run_spans.c.usage_json),
).where(run_spans.c.is_run != IS_RUN)


def _used_by_steps(rows: Sequence[Any]) -> Usage:
    """Return what the steps of one run used, the same model calls once."""
    places: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for position, row in enumerate(rows):
        places[row.span_id][row.start_time] = position
    steps = []
    for row in rows:
        starts = places.get(row.parent_span_id, {})
        start = parent_start_among(starts, child_start=row.start_time, parent_start=row.parent_start)
        steps.append((usage_of_row(row.usage_json), -1 if start is None else starts[start]))
    return summed(steps)


def parent_start_among(starts: Collection[str], *, child_start: str, parent_start: str | None) -> str | None:
    """Return when the parent of a span began, of the spans with the parent's ids; None where there is none.

    `parent_start` where it is known, else the last one that had begun, else the first.
    """
    if parent_start in starts or not starts:
        return parent_start if starts else None
    earlier = [start for start in starts if start <= child_start]
    return max(earlier) if earlier else min(starts)


def usage_of_row(usage_json: str | None) -> dict[str, Any]:
    """Return what a stored step used."""
    usage = loaded_usage(usage_json)
    usage.pop(INSIDE_CALL, None)
    usage.pop(SERVICE, None)
    return usage


def is_or_is_inside_call(usage_json: str | None) -> bool:
    """Return whether a stored step is a model call of its run, or is inside one."""
    if usage_json is None or usage_json == _PLAIN:
        return False
    return f'"{INSIDE_CALL}"' in usage_json or is_call(usage_of_row(usage_json))


def rollups_of(connection: Connection, event_ids: Iterable[str]) -> dict[str, Rollup]:
    """Return `event_id` → roll-up, for the runs that have one."""
    rollups = {}
    selected = select(*(run_rollups.c[name] for name in _ROLLUP_COLUMNS))
    rows = rows_with(connection, selected, run_rollups.c.event_id, event_ids)
    for event_id, parent_run_id, usage_json in rows:
        usage = loaded_usage(usage_json)
        agent = usage.get("agent")
        rollups[event_id] = Rollup(
            parent_run_id,
            usage.get("own", {}),
            usage.get("steps", {}),
            None if agent is None else Agent(*agent),
            usage.get("state"),
            usage.get("is_part", False),
        )
    return rollups


def with_rollup(record: RunRecord, rollup: Rollup | None) -> RunRecord:
    """Return the run as it is read: a number in its own state goes before what its spans add up to."""
    if rollup is None:
        return record
    metrics = metrics_as_read(record.metrics_json, own_usage=rollup.own, step_usage=rollup.steps)
    return replace(record, metrics_json=metrics, parent_run_id=record.parent_run_id or rollup.parent_run_id)


def loaded_usage(text: str | None) -> dict[str, Any]:
    """Return the usage that a column holds, empty when it holds none."""
    return load_object(text or "{}") or {}


@lru_cache(maxsize=8)
def _replace_rollups(dialect: Dialect) -> Statement:
    """Return the statement that stores rollups, whatever was stored before."""
    statement = insert_into(run_rollups, dialect)
    changes = {name: statement.excluded[name] for name in ("parent_run_id", "usage_json")}
    upsert = statement.on_conflict_do_update(index_elements=["event_id"], set_=changes)
    return compile_statement(upsert, dialect, _ROLLUP_COLUMNS)


@lru_cache(maxsize=8)
def _upsert_rollups(dialect: Dialect) -> Statement:
    """Return the statement that stores rollups and keeps a known parent when the new one is unknown."""
    statement = insert_into(run_rollups, dialect)
    new = statement.excluded
    changes = {
        "parent_run_id": func.coalesce(new.parent_run_id, run_rollups.c.parent_run_id),
        "usage_json": new.usage_json,
    }
    upsert = statement.on_conflict_do_update(index_elements=["event_id"], set_=changes)
    return compile_statement(upsert, dialect, _ROLLUP_COLUMNS)
