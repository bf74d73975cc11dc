"""Events and child spans of runs that reached a service, over OTLP or as lines of a journal.

The same span or event again is a no-op. They may come before their run, or without one: which
run they belong to is found by `traces`; what they add up to is kept by `rollups`.

Owns the tables `run_events` and `run_spans`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Dialect, Table, bindparam, delete, or_, select, tuple_

from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.storage.pages import FIRST_PART, MAX_PAGE_BYTES, rows_at_a_time
from otel_agent_telemetry.storage.rows import Cursor, Row, storable_texts
from otel_agent_telemetry.storage.statements import (
    Statement,
    compile_statement,
    copy_rows,
    insert_into,
    insert_rows_given_at_once,
    rows_parameter,
)
from otel_agent_telemetry.storage.tables import NO_WRITER, STEP_HAS_NO_LINE, UNKNOWN_START, run_events, run_spans
from otel_agent_telemetry.usage import is_any_call
from otel_agent_telemetry.wire import dumps_text, load_object

T = TypeVar("T")

_OF_RUN: Final = ("event_id", "run_id")
_OF_SPAN: Final = ("attributes_json", "is_run", "usage_json", "start_ns", "parent_start", "writer", "writer_seq")


def _fields(table: Table, *others: str) -> tuple[str, ...]:
    """Return the columns that are fields of `RunEvent` or `RunSpan`: all but the others, and what names the run."""
    return tuple(column.name for column in table.c if column.name not in {"id", *_OF_RUN, *others})


_event_values: Final = attrgetter("event_type", "timestamp", "trace_id")
_SPAN_FIELDS: Final = _fields(run_spans, *_OF_SPAN)
SPAN_COLUMNS: Final = (*_OF_RUN, *_SPAN_FIELDS, *_OF_SPAN)
_span_values: Final = attrgetter(*_SPAN_FIELDS)
_PLAIN: Final = '{"steps":1}'

INSIDE_CALL: Final = "inside_call"
"""The member of a step's `usage_json` that says that the step is inside a model call of its run."""
MANY_ROWS: Final = 20
"""From so many rows on PostgreSQL gets them as one parameter."""
NO_RUN: Final = ""
"""`event_id` of an event or span whose run is not known yet."""
SERVICE: Final = "service"
"""The member of a step's `usage_json` that names its service, where its run was not known when it came."""
IS_RUN: Final = 1
IS_PART: Final = 2
"""`is_run` of an agent's span that only repeats the run around it, whose step it is."""


class EventRow(NamedTuple):
    """An event that came over OTLP, its number among the events of its span, from 0, and when that span began.

    `of_run`: the `event_id` and `run_id` of its run, None for those that the event itself holds.
    """

    seq: int
    event: RunEvent
    span_start_ns: int = UNKNOWN_START
    of_run: tuple[str, str] | None = None


class EventLine(NamedTuple):
    """An event that came as a line of a journal: its row, which `writer` and `writer_seq` name.

    A journal brings thousands a second, so there is no other object of it between line and row.
    """

    event_id: str
    run_id: str
    event_type: str
    timestamp: str
    trace_id: str | None
    payload_json: str | None
    seq: int
    span_id: str
    span_start_ns: int
    writer: str
    writer_seq: int


class SpanRow(NamedTuple):
    """A span, whether it is a run itself, what it used as a step, and when it began.

    `parent_start`: `start_time` of its parent, where it is certain which span that is. `writer` and
    `writer_seq` name the line of a journal that this state of the span was, `became_run` the id of
    the run that it says the step has turned into. `of_run`: the `event_id` and `run_id` of its run,
    None for those that the span itself holds.
    """

    span: RunSpan
    is_run: bool = False
    usage: Mapping[str, Any] = {}
    start_ns: int = UNKNOWN_START
    parent_start: str | None = None
    writer: str = NO_WRITER
    writer_seq: int = 0
    became_run: str | None = None
    of_run: tuple[str, str] | None = None


class Page(NamedTuple):
    """At most `limit` rows, and some `MAX_PAGE_BYTES` of text; those after a cursor, None is from the beginning."""

    limit: int
    after: Cursor | None = None


class PageOf(list[T]):
    """The items of a page; `next_cursor` continues after them, None when there are no more."""

    def __init__(self, items: Iterable[T], next_cursor: Cursor | None = None) -> None:
        super().__init__(items)
        self.next_cursor = next_cursor


def add_events(connection: Connection, events: Sequence[EventRow]) -> None:
    """Write events; one of the same span and number that is stored already stays as it is."""
    add_event_rows(connection, list(map(_event_row, events)))


def add_event_rows(connection: Connection, rows: Sequence[Row]) -> None:
    """Write rows of events, in the order of `EventLine`; one that is stored already stays as it is."""
    if connection.dialect.name != "postgresql" or len(rows) < MANY_ROWS:
        _insert_events(connection.dialect).execute(connection, EventLine._fields, rows)
    # Few rows of a journal or an exporter are stored already, and COPY costs the server a third of an INSERT.
    elif not copy_rows(connection, run_events, EventLine._fields, rows):
        connection.execute(_insert_many_events(), rows_parameter(EventLine._fields, rows))


def add_spans(connection: Connection, spans: Sequence[SpanRow]) -> None:
    """Write spans; one that is stored already stays as it is."""
    _insert_spans(connection.dialect).execute(connection, SPAN_COLUMNS, map(span_row, spans))


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
    return PageOf(map(span_of_row, rows), next_cursor)


def span_of_row(row: Any) -> RunSpan:
    """Return the step of a row with all its columns."""
    return RunSpan(
        **{name: row._mapping[name] for name in (*_OF_RUN, *_SPAN_FIELDS)},  # noqa: SLF001 - SQLAlchemy's own name for it
        attributes=_loaded(row.attributes_json) or {},
    )


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
    rows: list[Any] = []
    size, part, after = 0, FIRST_PART, page.after
    while True:
        wanted = min(part, page.limit + 1 - len(rows))  # one more shows whether there is a next page
        following = selected if after is None else selected.where(tuple_(time, table.c.id) > after)
        found = connection.execute(following.limit(wanted)).all()
        for row in found:
            if len(rows) == page.limit or size > MAX_PAGE_BYTES:
                return rows, after
            rows.append(row)
            # Characters stand for bytes here: the bound is for memory, and need not be exact.
            size += sum(len(value) for value in row if isinstance(value, str))
            after = Cursor(row._mapping[time], row.id)  # noqa: SLF001 - as above
        if len(found) < wanted:
            return rows, None
        part = rows_at_a_time(size, len(rows))


def _loaded(text: str | None) -> Any:
    """Return the value of a JSON column."""
    return None if text is None else json.loads(text)


def _event_row(row: EventRow) -> Row:
    """Return an event in the order of its columns."""
    seq, event, start_ns, of_run = row
    of_run = of_run or (event.event_id, event.run_id)
    payload = None if event.payload is None else dumps_text(event.payload)
    return storable_texts((*of_run, *_event_values(event), payload, seq, event.span_id or "", start_ns, NO_WRITER, 0))


def span_row(row: SpanRow) -> Row:
    """Return a span in the order of `SPAN_COLUMNS`."""
    span, is_run, usage, start_ns, parent_start, writer, writer_seq, _, of_run = row
    of_run = of_run or (span.event_id, span.run_id)
    attributes, used = dumps_text(span.attributes), dumps_text(usage) if usage else None
    of_span = (attributes, int(is_run), used, start_ns, parent_start, writer, writer_seq)
    return storable_texts((*of_run, *_span_values(span), *of_span))


@lru_cache(maxsize=8)
def _insert_events(dialect: Dialect) -> Statement:
    """Return the statement that adds events; those that are stored stay as they are."""
    # Exporters send a batch again when its answer is lost (OTLP), so repeated rows are normal and change nothing.
    return compile_statement(insert_into(run_events, dialect).on_conflict_do_nothing(), dialect, EventLine._fields)


@lru_cache(maxsize=1)
def _insert_many_events() -> Any:
    """Return the statement that adds many events given as one parameter. PostgreSQL only."""
    return insert_rows_given_at_once(run_events, EventLine._fields).on_conflict_do_nothing()


@lru_cache(maxsize=8)
def _insert_spans(dialect: Dialect) -> Statement:
    """Return the statement that adds spans; those that are stored stay as they are."""
    return compile_statement(insert_into(run_spans, dialect).on_conflict_do_nothing(), dialect, SPAN_COLUMNS)


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
    """Return whether a stored step is a call of a model or a tool of its run, or is inside one."""
    # Most steps are plain, which their text shows without parsing it.
    if usage_json is None or usage_json == _PLAIN:
        return False
    return f'"{INSIDE_CALL}"' in usage_json or is_any_call(usage_of_row(usage_json))


def loaded_usage(text: str | None) -> dict[str, Any]:
    """Return the usage that a column holds, empty when it holds none."""
    return load_object(text or "{}") or {}
