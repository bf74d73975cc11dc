"""Counts and digests of the stored lines of a writer, by ranges of its numbers: what a host compares with.

An event is a line. A step has a line for its start and one for its end and is one row, which has the
number of the line that stands. Digests are of what the line alone decides: not of the run that it
belongs to, which may be another one by now. That of several lines is the sum of theirs, so the
lines of a range may be read in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, select

from otel_agent_telemetry.storage.rows import Row
from otel_agent_telemetry.storage.steps import SPAN_COLUMNS, EventLine, SpanRow, span_row
from otel_agent_telemetry.storage.tables import HAS_LINE, STEP_HAS_LINE, run_events, run_spans

_EVENT_CONTENT: Final = ("writer_seq", "event_type", "timestamp", "trace_id", "span_id", "payload_json")
_STEP_CONTENT: Final = (
    *("writer_seq", "trace_id", "span_id", "parent_span_id", "name", "kind", "status", "status_message"),
    *("start_time", "end_time", "duration_ms", "attributes_json"),
)
MAX_RANGES: Final = 25
MAX_NUMBERS: Final = 50_000
"""The most ranges, and numbers in them, of one request: what is read for one answer is bounded."""
_AT_A_TIME: Final = 1000
_MODULUS: Final = 1 << 60
_TABLES: Final = (
    (run_events, run_events.c.timestamp, HAS_LINE, _EVENT_CONTENT),
    (run_spans, run_spans.c.start_time, STEP_HAS_LINE, _STEP_CONTENT),
)


class LineRange(NamedTuple):
    """The lines of a writer with the numbers from `first` to `last`."""

    writer: str
    first: int
    last: int


class LineDigest(NamedTuple):
    """How many events and steps have a number of a range, and the digest of all."""

    events: int
    steps: int
    digest: int


def event_digest(event: EventLine) -> int:
    """Return the digest of an event."""
    return _digest(tuple(getattr(event, name) for name in _EVENT_CONTENT))


def step_digest(step: SpanRow) -> int:
    """Return the digest of the state of a step that a line is."""
    values = dict(zip(SPAN_COLUMNS, span_row(step), strict=True))
    return _digest(tuple(values[name] for name in _STEP_CONTENT))


def added(digests: Iterable[int]) -> int:
    """Return the digest of several lines, which is below 2^60."""
    return sum(digests) % _MODULUS


def _digest(content: Row) -> int:
    """Return 60 bits of a digest of the values; None and the empty text are one."""
    text = "\x1f".join(["" if value is None else str(value) for value in content])
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()) >> 4


def line_digests(connection: Connection, ranges: Sequence[LineRange], *, since: str) -> list[LineDigest]:
    """Return the digest of each range, of lines whose time is not before `since`. Reads the rows."""
    return [_of_range(connection, one, since) for one in ranges]


def _of_range(connection: Connection, wanted: LineRange, since: str) -> LineDigest:
    """Return the digest of one range."""
    counts, total = [], 0
    for table, time, has_line, content in _TABLES:
        number, sum_of = 0, 0
        for rows in _pages(connection, table, wanted, (has_line, time >= since), content):
            number += len(rows)
            sum_of += sum(map(_digest, rows))
        counts.append(number)
        total += sum_of
    return LineDigest(counts[0], counts[1], total % _MODULUS)


def _pages(
    connection: Connection,
    table: Table,
    wanted: LineRange,
    conditions: tuple[ColumnElement[bool], ...],
    content: tuple[str, ...],
) -> Iterable[Sequence[Any]]:
    """Yield the rows of a range, some thousand at a time, in the order of their numbers; the first column is that."""
    of_range = (table.c.writer == wanted.writer, table.c.writer_seq <= wanted.last, *conditions)
    selected = select(*(table.c[name] for name in content)).where(*of_range).order_by(table.c.writer_seq)
    after = wanted.first - 1
    while True:
        rows = connection.execute(selected.where(table.c.writer_seq > after).limit(_AT_A_TIME)).all()
        if rows:
            yield rows
        if len(rows) < _AT_A_TIME:
            return
        after = rows[-1][0]
