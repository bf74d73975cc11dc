"""Events and child spans of runs that reached a service over OTLP: kept once, read in order.

The same span or event again is a no-op. They may come before their run, or without one;
where they belong is found by `traces`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Dialect, Table, select, tuple_

from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.storage.rows import Position, Row, clean_text
from otel_agent_telemetry.storage.run_statements import Statement, compiled, insert_into
from otel_agent_telemetry.storage.tables import run_events, run_spans
from otel_agent_telemetry.wire import dumps_text

T = TypeVar("T")

_EVENT_COLUMNS: Final = tuple(column.name for column in run_events.c if column.name != "id")
_SPAN_COLUMNS: Final = tuple(column.name for column in run_spans.c if column.name != "id")
_SPAN_FIELDS: Final = tuple(name for name in _SPAN_COLUMNS if name not in ("attributes_json", "is_run", "usage_json"))

NOBODY: Final = ""
"""`event_id` of what has not found its run yet."""


class PlacedEvent(NamedTuple):
    """An event and its place among the events of its span, counted from 0."""

    seq: int
    event: RunEvent


class PlacedSpan(NamedTuple):
    """A span, whether it is a run itself, and what it used (see `rollups`)."""

    span: RunSpan
    is_run: bool = False
    usage: Mapping[str, Any] = {}


class Page(NamedTuple):
    """At most so many, behind a position."""

    limit: int
    after: Position | None = None


class Found(list[T]):
    """What a page holds; `last` is where it ended, None when nothing is behind it."""

    def __init__(self, items: Iterable[T], last: Position | None = None) -> None:
        super().__init__(items)
        self.last = last


def add_events(connection: Connection, events: Sequence[PlacedEvent]) -> None:
    """Keep events; one of the same span and place that is there already stays."""
    rows = [_event_row(seq, event) for seq, event in events]
    _event_statement(connection.dialect).execute(connection, _EVENT_COLUMNS, rows)


def add_spans(connection: Connection, spans: Sequence[PlacedSpan]) -> None:
    """Keep spans; one that is there already stays."""
    _span_statement(connection.dialect).execute(connection, _SPAN_COLUMNS, [_span_row(*span) for span in spans])


def events_of(connection: Connection, event_id: str, page: Page | None = None) -> Found[RunEvent]:
    """A run's events, oldest first; without a page all of them."""
    rows, last = _page_of(connection, run_events, run_events.c.timestamp, event_id, page)
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
    return Found(events, last)


def spans_of(connection: Connection, event_id: str, page: Page | None = None) -> Found[RunSpan]:
    """A run's steps, in order of their start; without a page all of them."""
    rows, last = _page_of(connection, run_spans, run_spans.c.start_time, event_id, page)
    spans = [
        RunSpan(
            **{name: row._mapping[name] for name in _SPAN_FIELDS},  # noqa: SLF001 - SQLAlchemy's own name for it
            attributes=_loaded(row.attributes_json) or {},
        )
        for row in rows
    ]
    return Found(spans, last)


def _page_of(
    connection: Connection, table: Table, at: ColumnElement[str], event_id: str, page: Page | None
) -> tuple[Sequence[Any], Position | None]:
    """The rows of a page, in order of `at`, and where it ended while there is more."""
    chosen = select(table).where(table.c.event_id == event_id).order_by(at, table.c.id)
    if page is None:
        return connection.execute(chosen).all(), None
    if page.after is not None:
        chosen = chosen.where(tuple_(at, table.c.id) > page.after)
    rows = connection.execute(chosen.limit(page.limit + 1)).all()
    if len(rows) <= page.limit:
        return rows, None
    last = rows[page.limit - 1]
    return rows[: page.limit], Position(last._mapping[at], last.id)  # noqa: SLF001 - as above


def _loaded(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _dumped(value: Any) -> str | None:
    return None if value is None else dumps_text(value)


def _event_row(seq: int, event: RunEvent) -> Row:
    values = {"payload_json": _dumped(event.payload), "seq": seq, "span_id": event.span_id or ""}
    return tuple(clean_text(values[name] if name in values else getattr(event, name)) for name in _EVENT_COLUMNS)


def _span_row(span: RunSpan, is_run: bool, usage: Mapping[str, Any]) -> Row:
    values = {
        "attributes_json": _dumped(dict(span.attributes)),
        "is_run": int(is_run),
        "usage_json": _dumped(dict(usage)) if usage else None,
    }
    return tuple(clean_text(values[name] if name in values else getattr(span, name)) for name in _SPAN_COLUMNS)


@lru_cache(maxsize=8)
def _event_statement(dialect: Dialect) -> Statement:
    return compiled(insert_into(run_events, dialect).on_conflict_do_nothing(), dialect, _EVENT_COLUMNS)


@lru_cache(maxsize=8)
def _span_statement(dialect: Dialect) -> Statement:
    return compiled(insert_into(run_spans, dialect).on_conflict_do_nothing(), dialect, _SPAN_COLUMNS)
