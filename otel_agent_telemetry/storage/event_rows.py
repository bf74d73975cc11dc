"""The events of one run for a page: their beginnings, one whole, which types there are, and when they happened.

A payload may be of any size, so the lists read its beginning and its length.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, select, tuple_

from otel_agent_telemetry.storage.rows import Cursor
from otel_agent_telemetry.storage.tables import run_events

MAX_COUNTED: Final = 20_000
"""Events of a run that are counted by type."""
SHOWN_CHARACTERS: Final = 500
"""Characters of a payload in a list."""
_events: Final = run_events.c


class EventLine(NamedTuple):
    """An event in a list: the number of its row, and its payload's first characters and whole length as JSON text."""

    id: int
    timestamp: str
    event_type: str
    span_id: str
    payload: str | None
    length: int

    @property
    def cursor(self) -> Cursor:
        """Return the event's place in the run's list."""
        return Cursor(self.timestamp, self.id)


class WholeEvent(NamedTuple):
    """An event with its whole payload as JSON text, None for none."""

    id: int
    timestamp: str
    event_type: str
    span_id: str
    payload: str | None


class EventTypes(NamedTuple):
    """How many events of each type a run has, the most frequent first; of `counted` events, and there may be more."""

    counts: list[tuple[str, int]]
    counted: int
    complete: bool


_LINE: Final = (
    _events.id,
    _events.timestamp,
    _events.event_type,
    _events.span_id,
    func.substr(_events.payload_json, 1, SHOWN_CHARACTERS),
    func.coalesce(func.length(_events.payload_json), 0),
)
_WHOLE: Final = (_events.id, _events.timestamp, _events.event_type, _events.span_id, _events.payload_json)


def event_lines(
    connection: Connection, event_id: str, *, limit: int, event_type: str = "", after: Cursor | None = None
) -> list[EventLine]:
    """Return events of a run, oldest first, at most `limit`: of one type if it is given, those after a place."""
    wanted: list[ColumnElement[bool]] = [_events.event_id == event_id]
    if event_type:
        wanted.append(_events.event_type == event_type)
    if after is not None:
        # As one row value, in the order of the list: several events have one timestamp.
        wanted.append(tuple_(_events.timestamp, _events.id) > after)
    selected = select(*_LINE).where(*wanted).order_by(_events.timestamp, _events.id).limit(limit)
    return [EventLine._make(row) for row in connection.execute(selected)]


def event_lines_added(connection: Connection, event_id: str, after: int, *, limit: int) -> list[EventLine]:
    """Return the events of a run whose row was added after the row of number `after`, in that order."""
    wanted = (_events.event_id == event_id, _events.id > after)
    selected = select(*_LINE).where(*wanted).order_by(_events.id).limit(limit)
    return [EventLine._make(row) for row in connection.execute(selected)]


def events_of_step(connection: Connection, event_id: str, span_id: str, *, limit: int) -> list[EventLine]:
    """Return the events of one step, oldest first, at most `limit`."""
    wanted = (_events.event_id == event_id, _events.span_id == span_id)
    selected = select(*_LINE).where(*wanted).order_by(_events.timestamp, _events.id).limit(limit)
    return [EventLine._make(row) for row in connection.execute(selected)]


def find_event(connection: Connection, event_id: str, number: int) -> WholeEvent | None:
    """Return an event of a run by the number of its row; None when there is none."""
    row = connection.execute(select(*_WHOLE).where(_events.event_id == event_id, _events.id == number)).first()
    return None if row is None else WholeEvent._make(row)


def event_types(connection: Connection, event_id: str) -> EventTypes:
    """Return the types of a run's events; at most MAX_COUNTED events are counted."""
    # A bound first, then the counting: an agent may write a million events into one run.
    some = select(_events.event_type).where(_events.event_id == event_id).limit(MAX_COUNTED).subquery()
    counted = func.count()
    selected = select(some.c.event_type, counted).group_by(some.c.event_type)
    counts = [(str(kind), int(count)) for kind, count in connection.execute(selected)]
    total = sum(count for _, count in counts)
    return EventTypes(sorted(counts, key=lambda one: (-one[1], one[0])), total, total < MAX_COUNTED)


def event_times(connection: Connection, event_id: str, *, limit: int) -> list[tuple[str, str]]:
    """Return time and type of a run's events, oldest first, at most `limit`."""
    selected = select(_events.timestamp, _events.event_type).where(_events.event_id == event_id)
    rows = connection.execute(selected.order_by(_events.timestamp, _events.id).limit(limit))
    return [(row.timestamp, row.event_type) for row in rows]


def last_event_number(connection: Connection, event_id: str) -> int:
    """Return the highest row number of a run's events, 0 without any."""
    highest = select(func.max(_events.id)).where(_events.event_id == event_id)
    return int(connection.execute(highest).scalar() or 0)
