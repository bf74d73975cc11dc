# ruff: noqa: S608 - names of the tables of this file
"""Bookkeeping of a journal's events and steps for `verify`: what a service must have of them.

Counted are the lines that the service has confirmed (`journal_cursor`); what waits behind the cursor is
compared another time. Of a step the line that stands is expected: that of its end, else the last
one. Lines without a writer and a number are passed over. Kept in a temporary SQLite database
(`scratch`), some 200 bytes a line:

    events(writer, seq, event_id, at, digest)
    steps(trace_id, span_id, at, event_id, writer, seq, ended, digest, again)

`again` says that the journal has a later line of the step behind the cursor, which the service may
have by now.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.journal_cursor import last_cursor
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.storage.line_digests import LineDigest, LineRange, added, event_digest, step_digest
from otel_agent_telemetry.storage.line_rows import NOT_STORED, UsualEvents, event_row, step_row
from otel_agent_telemetry.storage.steps import EventLine, SpanRow
from otel_agent_telemetry.wire import EVENT, SPAN, Line

_MAX_RANGE: Final = 20_000
_TABLES: Final = (
    """CREATE TABLE events (
    writer TEXT, seq INTEGER, event_id TEXT, at TEXT, digest INTEGER, PRIMARY KEY (writer, seq)
    ) WITHOUT ROWID""",
    """CREATE TABLE steps (
    trace_id TEXT, span_id TEXT, at TEXT, event_id TEXT, writer TEXT, seq INTEGER, ended INTEGER, digest INTEGER,
    again INTEGER, PRIMARY KEY (trace_id, span_id, at)
    ) WITHOUT ROWID""",
    "CREATE INDEX steps_by_line ON steps (writer, seq)",
    "CREATE TABLE not_expected (event_id TEXT PRIMARY KEY) WITHOUT ROWID",
)
_ADD_EVENT: Final = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)"
_ADD_STEP: Final = """
INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO UPDATE SET
    writer = excluded.writer, seq = excluded.seq, ended = excluded.ended, digest = excluded.digest
WHERE NOT ended AND (excluded.ended OR excluded.seq > seq)
"""
_OF_RANGE: Final = "WHERE writer = ? AND seq BETWEEN ? AND ?"
_ALL: Final = "SELECT writer, seq FROM events UNION ALL SELECT writer, seq FROM steps"
_RANGES: Final = f"SELECT writer, min(seq), max(seq) FROM ({_ALL}) GROUP BY writer"
_LEFT_OUT: Final = "at < ? OR event_id IN (SELECT event_id FROM not_expected)"
_DELETE_LINE: Final = tuple(f"DELETE FROM {table} WHERE (writer, seq) = (?, ?)" for table in ("events", "steps"))
_DELETE_LEFT_OUT: Final = tuple(f"DELETE FROM {table} WHERE {_LEFT_OUT}" for table in ("events", "steps"))
_DIGESTS: Final = tuple(f"SELECT digest FROM {table} {_OF_RANGE}" for table in ("events", "steps"))
_EACH: Final = (
    f"SELECT writer, seq, event_id, 0 AS again FROM events {_OF_RANGE} "
    f"UNION ALL SELECT writer, seq, event_id, again FROM steps {_OF_RANGE}"
)


class LineName(NamedTuple):
    """A line of an event or a step, and the run that it names, "" for none."""

    writer: str
    seq: int
    event_id: str


class LineLedger:
    """Collects the lines of a journal that a service has confirmed. Not safe under threads."""

    def __init__(self, scratch: sqlite3.Connection, config: TelemetryConfig) -> None:
        """Read the cursor of the service that confirmed last. Raises OSError."""
        self._scratch = scratch
        self._cursor = last_cursor(config.buffer_dir)
        for statement in _TABLES:  # one by one, to stay in the transaction (`run_ledger`)
            scratch.execute(statement)

    def confirmed(self, path: Path) -> int:
        """Return how many bytes of a day's file the service confirmed, of an archive all or none. Raises OSError."""
        return 0 if self._cursor is None else self._cursor.confirmed(path)

    def delivered(self, records: Iterable[Line]) -> None:
        """Add the events and steps among lines that are confirmed; those that delivery refuses are left out."""
        usual, events, steps = UsualEvents(), list[EventLine](), list[SpanRow]()
        for record in records:
            if record["record_type"] == SPAN:
                steps += _made(step_row, record)
            elif record["record_type"] == EVENT and not usual.take(0, record):
                events += _made(event_row, record) if record.get("event_type") not in NOT_STORED else ()
        events += (row for _, row in usual.rows())
        rows = ((e.writer, e.writer_seq, e.event_id, e.timestamp, event_digest(e)) for e in events if e.writer_seq)
        self._scratch.executemany(_ADD_EVENT, rows)
        self._scratch.executemany(_ADD_STEP, [_step_values(step) for step in steps if step.writer_seq])

    def later(self, records: Iterable[Line]) -> None:
        """Note the steps that have a line behind the cursor."""
        names = ("trace_id", "span_id", "start_time")
        keys = [tuple(map(record.get, names)) for record in records if record["record_type"] == SPAN]
        self._scratch.executemany("UPDATE steps SET again = 1 WHERE (trace_id, span_id, at) = (?, ?, ?)", keys)

    def refused(self, records: Iterable[Line]) -> int:
        """Leave out lines that the service has refused for good; return how many were expected."""
        lines = [(record.get("writer"), record.get("seq")) for record in records]
        before = self._scratch.total_changes
        for statement in _DELETE_LINE:
            self._scratch.executemany(statement, lines)
        return self._scratch.total_changes - before

    def leave_out(self, event_ids: Iterable[str], *, before: str) -> None:
        """Leave out the lines of deleted runs, and those of a time before a cut-off."""
        self._scratch.executemany("INSERT OR IGNORE INTO not_expected VALUES (?)", ((one,) for one in event_ids))
        for statement in _DELETE_LEFT_OUT:
            self._scratch.execute(statement, (before,))

    def __len__(self) -> int:
        return int(self._scratch.execute(f"SELECT count(*) FROM ({_ALL})").fetchone()[0])

    def ranges(self) -> Iterator[LineRange]:
        """Yield ranges that hold every line, of at most 20,000 numbers each."""
        for writer, first, last in self._scratch.execute(_RANGES).fetchall():
            for start in range(first, last + 1, _MAX_RANGE):
                yield LineRange(writer, start, min(start + _MAX_RANGE - 1, last))

    def digest(self, wanted: LineRange) -> LineDigest:
        """Return what the service must have in a range."""
        found = [[one for (one,) in self._scratch.execute(digests, wanted)] for digests in _DIGESTS]
        return LineDigest(len(found[0]), len(found[1]), added((*found[0], *found[1])))

    def lines(self, wanted: LineRange) -> list[LineName]:
        """Return the lines of a range, without states of steps that have a later line behind the cursor."""
        rows = self._scratch.execute(_EACH, (*wanted, *wanted))
        return [LineName(*row[:3]) for row in rows if not row[3]]


def _made(make: Any, record: Line) -> list[Any]:
    """Return the row of a line; none of one that breaks a rule, which delivery refuses, too."""
    try:
        return [make(record)]
    except RecordError:
        return []


def _step_values(step: SpanRow) -> tuple[Any, ...]:
    """Return the row of `steps` for a line of a step."""
    span = step.span
    key = (span.trace_id, span.span_id, span.start_time)
    return *key, span.event_id, step.writer, step.writer_seq, span.end_time is not None, step_digest(step)
