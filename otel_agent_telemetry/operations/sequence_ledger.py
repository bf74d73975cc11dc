"""Bookkeeping of line numbers for `verify`, in bounded memory: which are missing, and which occur twice.

A writer numbers its lines 1, 2, 3 … (`wire`). Numbers arrive nearly in order, so one interval is
extended for each writer; an interval that ended goes to `scratch`, a temporary SQLite database, and
all are merged at the end. Two tables:

    intervals(writer, first, last)
    issued(writer, last)            the highest number that the writer is known to have used
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from otel_agent_telemetry.wire import Line

# Bounds the memory for any number of writers: further intervals go to a temporary file.
_MAX_IN_MEMORY: Final = 10_000


@dataclass(frozen=True, slots=True)
class Gap:
    """The line numbers `first` to `last` of a writer, which no line has."""

    writer: str
    first: int
    last: int

    @property
    def lines(self) -> int:
        """Return the number of missing lines."""
        return self.last - self.first + 1


class SequenceLedger:
    """Collects line numbers, in any order and repeatedly, and finds the gaps. Not safe under threads."""

    def __init__(self, scratch: sqlite3.Connection) -> None:
        self._scratch = scratch
        self._open: dict[str, list[int]] = {}
        self._issued: dict[str, int] = {}
        scratch.execute("CREATE TABLE intervals (writer TEXT, first INTEGER, last INTEGER)")
        scratch.execute("CREATE TABLE issued (writer TEXT PRIMARY KEY, last INTEGER) WITHOUT ROWID")

    def issued(self, writer: str, number: int) -> None:
        """Note that the writer has used the numbers up to this one."""
        if number > self._issued.get(writer, 0):
            self._issued[writer] = number
            if len(self._issued) > _MAX_IN_MEMORY:
                self._spill()

    def saw(self, records: Sequence[Line]) -> None:
        """Note the writers and numbers of lines; lines without them are passed over."""
        intervals = self._open
        for writer, number in _numbers_of(records):
            interval = intervals.get(writer)
            # The usual case: the next line of the same writer.
            if interval is not None and number == interval[1] + 1:
                interval[1] = number
                continue
            if interval is not None:
                # Threads number their lines before they write them, so a writer's lines may stand a few places out of
                # order.
                self._scratch.execute("INSERT INTO intervals VALUES (?, ?, ?)", (writer, *interval))
            intervals[writer] = [number, number]
            if len(intervals) > _MAX_IN_MEMORY:
                self._spill()

    def issue_seen(self) -> None:
        """Note that every writer has used the numbers up to the highest seen so far."""
        self._spill()
        self._scratch.execute(
            "INSERT INTO issued SELECT writer, max(last) FROM intervals WHERE true GROUP BY writer "
            "ON CONFLICT (writer) DO UPDATE SET last = max(last, excluded.last)"
        )

    def _spill(self) -> None:
        """Move what is in memory to the temporary database."""
        self._scratch.executemany(
            "INSERT INTO intervals VALUES (?, ?, ?)",
            [(writer, *interval) for writer, interval in self._open.items()],
        )
        self._scratch.executemany(
            "INSERT INTO issued VALUES (?, ?) ON CONFLICT (writer) DO UPDATE SET last = max(last, excluded.last)",
            self._issued.items(),
        )
        self._open.clear()
        self._issued.clear()

    def writers(self) -> int:
        """Return how many writers used a number."""
        self._spill()
        return int(self._scratch.execute("SELECT count(*) FROM issued").fetchone()[0])

    def gaps(self) -> Iterator[Gap]:
        """Yield the missing numbers up to the highest that each writer is known to have used, by writer."""
        self._spill()
        rows = self._scratch.execute(
            "SELECT writer, issued.last, intervals.first, intervals.last "
            "FROM issued LEFT JOIN intervals USING (writer) ORDER BY writer, intervals.first"
        )
        current, limit, expected = "", 0, 1
        for writer, issued, first, last in rows:
            if writer != current:
                yield from _gap(current, expected, limit)
                current, limit, expected = writer, issued, 1
            if first is not None:
                yield from _gap(writer, expected, min(first - 1, limit))
                # Intervals can overlap when a line was read twice.
                expected = max(expected, last + 1)
        yield from _gap(current, expected, limit)

    def repeated(self, *, limit: int) -> dict[str, set[int]]:
        """Return writer → numbers that more than one line has, at most `limit` numbers in all."""
        self._spill()
        rows = self._scratch.execute("SELECT writer, first, last FROM intervals ORDER BY writer, first")
        found: dict[str, set[int]] = {}
        current, seen = "", 0
        for writer, first, last in rows:
            if writer != current:
                current, seen = writer, 0
            if first <= seen and limit > 0:
                numbers = range(first, min(last, seen, first + limit - 1) + 1)
                found.setdefault(writer, set()).update(numbers)
                limit -= len(numbers)
            seen = max(seen, last)
        return found


_number_of: Final = itemgetter("writer", "seq")


def _numbers_of(records: Sequence[Line]) -> list[tuple[str, int]]:
    """Return the writers and numbers of lines, without the lines that have none."""
    with contextlib.suppress(KeyError, ValueError):
        found = list(map(_number_of, records))
        writers, numbers = zip(*found, strict=True)
        if set(map(type, writers)) == {str} and set(map(type, numbers)) == {int} and min(numbers) > 0:
            return found
    pairs = ((record.get("writer"), record.get("seq")) for record in records)
    return [(writer, number) for writer, number in pairs if type(writer) is str and type(number) is int and number > 0]


def _gap(writer: str, first: int, last: int) -> Iterator[Gap]:
    """Yield the gap from `first` to `last`, nothing when it is empty."""
    if first <= last:
        yield Gap(writer, first, last)
