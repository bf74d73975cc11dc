"""Events and steps that come as lines of a journal: stored with the run that the recording host gave them.

A line names its run and itself (writer and number), so no run is searched and the same line
again changes nothing. A step has a line for its start and one for its end, and is one row.
The lines may come before the state of their run.

What a host also exports over OTLP is stored once: a step by its ids and the microsecond of
its start, an event by its span, time and type. The journal's version of it stands.

Lines may belong to another run than the one they name: a run whose root was missing for long has
an id of its own, which its states join (`silence`). `run_keys` keeps that for later lines. What
is below a step that has turned into a run is `turned_steps`'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Dialect, bindparam, or_, select, update

from otel_agent_telemetry.storage.span_membership import settle_below
from otel_agent_telemetry.storage.span_places import Place, Places
from otel_agent_telemetry.storage.statements import (
    Lookup,
    Statement,
    compile_statement,
    insert_into,
    insert_rows_given_at_once,
    key_lookup,
    rows_of_keys,
    rows_parameter,
    rows_with,
)
from otel_agent_telemetry.storage.steps import (
    MANY_ROWS,
    NO_RUN,
    SPAN_COLUMNS,
    EventLine,
    SpanRow,
    add_event_rows,
    span_row,
)
from otel_agent_telemetry.storage.tables import (
    HAS_LINE,
    HAS_NO_LINE,
    LOG_WRITER,
    STEP_HAS_NO_LINE,
    agent_runs,
    run_events,
    run_keys,
    run_spans,
)
from otel_agent_telemetry.storage.turned_steps import hand_over, note_turned, with_turned_steps

_events: Final = run_events.c
_spans: Final = run_spans.c
_OF_LINE: Final = ("writer", "writer_seq", "event_id", "run_id", "payload_json")
"""Columns of an event that came over OTLP which its line sets."""
_NOT_REPLACED: Final = frozenset({"trace_id", "span_id", "start_ns", "start_time", "is_run", "usage_json"})
"""Columns of a stored step that a later line of it leaves as they are."""


def write_lines(connection: Connection, lines: Sequence[EventLine | SpanRow]) -> None:
    """Write events and steps; those that are stored already stay as they are, but for a step that ends.

    Within the connection's transaction, after the states of their runs.

    Blocks for the locks of the rows that it writes. Raises the driver's errors, see `engine.translated`.
    """
    events = [line for line in lines if isinstance(line, EventLine)]
    steps = _latest(line for line in lines if isinstance(line, SpanRow))
    named = {event.event_id for event in events} | {step.span.event_id for step in steps}
    joined = _joined_runs(connection, named)
    if steps:
        _write_steps(connection, [_step_in(step, joined) for step in steps])
    if events:
        runs = runs_named(connection, {event.run_id for event in events if not event.event_id})
        _write_events(connection, [_event_in(event, joined, runs) for event in events] if joined or runs else events)
    turned = [step for step in steps if step.became_run is not None]
    note_turned(connection, turned)
    hand_over(connection, {step.span.event_id for step in turned} | with_turned_steps(connection, named))


def _latest(steps: Iterable[SpanRow]) -> list[SpanRow]:
    """Return one line of each step: that of its end if it is there, else the last one."""
    found: dict[tuple[str, str, int], SpanRow] = {}
    for step in steps:
        key = (step.span.trace_id, step.span.span_id, step.start_ns)
        # In a batch both lines of a step may stand: an upsert must not touch one row twice, which PostgreSQL refuses.
        if key not in found or found[key].span.end_time is None:
            found[key] = step
    return list(found.values())


def _step_in(step: SpanRow, joined: Mapping[str, str]) -> SpanRow:
    """Return a step with the run that it belongs to."""
    event_id = joined.get(step.span.event_id)
    return step if event_id is None else step._replace(span=replace(step.span, event_id=event_id))


def _event_in(event: EventLine, joined: Mapping[str, str], runs: Mapping[str, str]) -> EventLine:
    """Return an event with the run that it belongs to; one may name it by its run id only."""
    named = event.event_id or runs.get(event.run_id, NO_RUN)
    event_id = joined.get(named, named)
    return event if event_id == event.event_id else event._replace(event_id=event_id)


def runs_named(connection: Connection, run_ids: Iterable[str]) -> dict[str, str]:
    """Return `run_id` → `event_id` of the newest stored run of that id."""
    columns = agent_runs.c
    selected = select(columns.run_id, columns.created_at, columns.event_id)
    rows = sorted(tuple(row) for row in rows_with(connection, selected, columns.run_id, run_ids))
    return {run_id: event_id for run_id, _, event_id in rows}


# --- runs that have joined another


def _joined_key(event_id: str) -> str:
    """Return the key under which `run_keys` has the run that another one joined."""
    return f"run:{event_id}"


def _joined_runs(connection: Connection, event_ids: Iterable[str]) -> dict[str, str]:
    """Return `event_id` → the one that the run has here, of those that have joined a run."""
    wanted = {_joined_key(event_id): event_id for event_id in event_ids}
    selected = select(run_keys.c.run_key, run_keys.c.event_id)
    return {wanted[row.run_key]: row.event_id for row in rows_with(connection, selected, run_keys.c.run_key, wanted)}


def join_lines(connection: Connection, named: str, event_id: str) -> None:
    """Give the lines of a run, stored ones and later ones, the `event_id` that the run has here."""
    key = {"run_key": _joined_key(named), "event_id": event_id}
    connection.execute(insert_into(run_keys, connection.dialect).on_conflict_do_nothing(), key)
    for table in (run_events, run_spans):
        connection.execute(update(table).where(table.c.event_id == named).values(event_id=event_id))


# --- steps


def _write_steps(connection: Connection, steps: Sequence[SpanRow]) -> None:
    """Store steps, and give spans that waited for one of them its run."""
    # A journal has the start in microseconds and OTLP in nanoseconds; the stored one is taken, so that both are one
    # row.
    starts = _starts_over_otlp(connection, steps)
    rows = [span_row(step._replace(start_ns=starts.get(_place(step), step.start_ns))) for step in steps]
    if connection.dialect.name == "postgresql" and len(rows) >= MANY_ROWS:
        connection.execute(_upsert_many_steps(), rows_parameter(SPAN_COLUMNS, rows))
    else:
        _upsert_steps(connection.dialect).execute(connection, SPAN_COLUMNS, rows)
    waiting = _traces_with_orphans(connection, {step.span.trace_id for step in steps})
    arrived = [_place(step) for step in steps if step.span.trace_id in waiting]
    if arrived:
        places = Places(connection)
        places.load(place.key for place in arrived)
        settle_below(connection, places, arrived)


def _place(step: SpanRow) -> Place:
    """Return where a step stands: its trace, its span and its start."""
    return Place((step.span.trace_id, step.span.span_id), step.span.start_time)


def _starts_over_otlp(connection: Connection, steps: Sequence[SpanRow]) -> dict[Place, int]:
    """Return when spans began, in nanoseconds, that came over OTLP before their lines."""
    lookup = _find_spans_over_otlp(connection.dialect)
    rows = rows_of_keys(connection, lookup, (_place(step).key for step in steps))
    return {Place((row.trace_id, row.span_id), row.start_time): row.start_ns for row in rows}


@lru_cache(maxsize=8)
def _find_spans_over_otlp(dialect: Dialect) -> Lookup:
    """Return the lookup of spans that came over OTLP, by trace id and span id."""
    selected = select(_spans.trace_id, _spans.span_id, _spans.start_ns, _spans.start_time)
    return key_lookup(dialect, selected, (_spans.trace_id, _spans.span_id), STEP_HAS_NO_LINE)


def _traces_with_orphans(connection: Connection, trace_ids: Iterable[str]) -> set[str]:
    """Return the traces that have spans which wait for a run."""
    selected = select(_spans.trace_id).where(_spans.event_id == NO_RUN).distinct()
    return {row[0] for row in rows_with(connection, selected, _spans.trace_id, trace_ids)}


@lru_cache(maxsize=8)
def _upsert_steps(dialect: Dialect) -> Statement:
    """Return the statement that stores a few steps."""
    return compile_statement(_keeping_the_end(insert_into(run_spans, dialect)), dialect, SPAN_COLUMNS)


@lru_cache(maxsize=1)
def _upsert_many_steps() -> Any:
    """Return the statement that stores many steps given as one parameter. PostgreSQL only."""
    return _keeping_the_end(insert_rows_given_at_once(run_spans, SPAN_COLUMNS))


def _keeping_the_end(statement: Any) -> Any:
    """Return an INSERT that changes stored steps: of a step's lines that of the end stands, else the last one."""
    new = statement.excluded
    changes = {name: new[name] for name in SPAN_COLUMNS if name not in _NOT_REPLACED}
    is_later = new.end_time.is_not(None) | (new.writer_seq > _spans.writer_seq)
    return statement.on_conflict_do_update(
        index_elements=["trace_id", "span_id", "start_ns"],
        set_=changes,
        where=or_(STEP_HAS_NO_LINE, _spans.end_time.is_(None) & is_later),
    )


# --- events


def _write_events(connection: Connection, events: Sequence[EventLine]) -> None:
    """Store events; one that came over OTLP becomes the line's."""
    spans = {(event.trace_id, event.span_id) for event in events if event.span_id}
    rows = rows_of_keys(connection, _find_events_over_otlp(connection.dialect), spans)
    over_otlp = {(row.trace_id, row.span_id, row.timestamp, row.event_type): row.id for row in rows}
    if over_otlp:
        events = _taken_over(connection, events, over_otlp)
    add_event_rows(connection, events)


def _taken_over(
    connection: Connection, events: Sequence[EventLine], over_otlp: Mapping[tuple[Any, ...], int]
) -> list[EventLine]:
    """Make stored events those of the lines; return the lines that have no such event."""
    left, numbers = [], dict(over_otlp)
    for event in events:
        # Taken out, because a span may have two events of one type at one instant: each line gets one of them.
        number = numbers.pop((event.trace_id, event.span_id, event.timestamp, event.event_type), None)
        if number is None:
            left.append(event)
            continue
        # The same line again, after its event also came over OTLP: the unique key of lines would refuse the update.
        if not _is_stored(connection, event):
            values = {name: getattr(event, name) for name in _OF_LINE}
            connection.execute(_set_line, {"of_id": number, **{f"of_{name}": value for name, value in values.items()}})
    return left


def _is_stored(connection: Connection, event: EventLine) -> bool:
    """Return whether the line of an event is stored."""
    of_line = (_events.writer == event.writer, _events.writer_seq == event.writer_seq, HAS_LINE)
    return connection.execute(select(_events.id).where(*of_line)).first() is not None


_set_line: Final = (
    update(run_events)
    .where(_events.id == bindparam("of_id"))
    .values({name: bindparam(f"of_{name}") for name in _OF_LINE})
)


@lru_cache(maxsize=8)
def _find_events_over_otlp(dialect: Dialect) -> Lookup:
    """Return the lookup of events that came over OTLP, by trace id and span id."""
    selected = select(_events.id, _events.trace_id, _events.span_id, _events.timestamp, _events.event_type)
    return key_lookup(dialect, selected, (_events.trace_id, _events.span_id), HAS_NO_LINE)


def runs_with_lines(connection: Connection, event_ids: Iterable[str]) -> set[str]:
    """Return those of the runs of which a line of a journal has brought events."""
    keys = [(event_id,) for event_id in event_ids]
    return (
        {row[0] for row in rows_of_keys(connection, _find_runs_with_lines(connection.dialect), keys)} if keys else set()
    )


@lru_cache(maxsize=8)
def _find_runs_with_lines(dialect: Dialect) -> Lookup:
    """Return the lookup of runs that have events from a journal, by event id."""
    return key_lookup(
        dialect, select(_events.event_id).distinct(), (_events.event_id,), HAS_LINE, _events.writer != LOG_WRITER
    )
