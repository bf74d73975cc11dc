"""Events and child spans of runs that reached a service over OTLP: kept once, read in order.

The same span or event again is a no-op; an ended span replaces its start. They may come
before their run, or without one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Dialect, select

from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.storage.rows import Row, clean_text
from otel_agent_telemetry.storage.run_statements import Statement, compiled, insert_into
from otel_agent_telemetry.storage.tables import run_events, run_spans
from otel_agent_telemetry.wire import dumps_text

_EVENT_COLUMNS: Final = tuple(column.name for column in run_events.c if column.name != "id")
_SPAN_COLUMNS: Final = tuple(column.name for column in run_spans.c if column.name not in ("id", "is_run", "usage_json"))


def add_events(connection: Connection, events: Sequence[tuple[int, RunEvent]]) -> None:
    """Keep events, each with its place among the events of its span, counted from 0."""
    rows = [_event_row(seq, event) for seq, event in events]
    _event_statement(connection.dialect).execute(connection, _EVENT_COLUMNS, rows)


def add_spans(connection: Connection, spans: Sequence[RunSpan]) -> None:
    """Keep steps, started or ended."""
    _span_statement(connection.dialect).execute(connection, _SPAN_COLUMNS, [_span_row(span) for span in spans])


def events_of(connection: Connection, event_id: str) -> list[RunEvent]:
    """A run's events, oldest first."""
    table = run_events.c
    chosen = select(run_events).where(table.event_id == event_id).order_by(table.timestamp, table.seq, table.id)
    return [
        RunEvent(
            event_id=row.event_id,
            run_id=row.run_id,
            event_type=row.event_type,
            timestamp=row.timestamp,
            payload=_loaded(row.payload_json),
            trace_id=row.trace_id,
            span_id=row.span_id or None,
        )
        for row in connection.execute(chosen)
    ]


def spans_of(connection: Connection, event_id: str) -> list[RunSpan]:
    """A run's steps, in order of their start."""
    table = run_spans.c
    chosen = select(run_spans).where(table.event_id == event_id).order_by(table.start_time, table.id)
    names = [name for name in _SPAN_COLUMNS if name != "attributes_json"]
    return [
        RunSpan(**{name: row[name] for name in names}, attributes=_loaded(row["attributes_json"]) or {})
        for row in connection.execute(chosen).mappings()
    ]


def _loaded(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _dumped(value: Any) -> str | None:
    return None if value is None else dumps_text(value)


def _event_row(seq: int, event: RunEvent) -> Row:
    values = {"payload_json": _dumped(event.payload), "seq": seq, "span_id": event.span_id or ""}
    return tuple(clean_text(values[name] if name in values else getattr(event, name)) for name in _EVENT_COLUMNS)


def _span_row(span: RunSpan) -> Row:
    values = {"attributes_json": _dumped(dict(span.attributes))}
    return tuple(clean_text(values[name] if name in values else getattr(span, name)) for name in _SPAN_COLUMNS)


@lru_cache(maxsize=8)
def _event_statement(dialect: Dialect) -> Statement:
    return compiled(insert_into(run_events, dialect).on_conflict_do_nothing(), dialect, _EVENT_COLUMNS)


@lru_cache(maxsize=8)
def _span_statement(dialect: Dialect) -> Statement:
    statement = insert_into(run_spans, dialect)
    new = statement.excluded
    return compiled(
        statement.on_conflict_do_update(
            index_elements=["trace_id", "span_id"],
            set_={name: new[name] for name in _SPAN_COLUMNS if name not in ("trace_id", "span_id")},
            where=run_spans.c.end_time.is_(None) & new.end_time.is_not(None),
        ),
        dialect,
        _SPAN_COLUMNS,
    )
