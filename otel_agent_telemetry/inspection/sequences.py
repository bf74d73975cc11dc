"""Which sequence numbers of each writer were seen, and which are missing, in bounded memory.

A writer numbers its lines 1, 2, 3 … (`wire`). Numbers come nearly in order, so what is kept
of a writer is the interval being extended; intervals that ended go to a temporary SQLite
table and are merged at the end. Two tables of `scratch`:

    intervals(writer, first, last)
    issued(writer, last)            the highest number known to have been given out
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAX_OPEN: Final = 10_000


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers `first` to `last` of a writer that no line has."""

    writer: str
    first: int
    last: int

    @property
    def lines(self) -> int:
        """How many lines are missing."""
        return self.last - self.first + 1


class SequenceLedger:
    """Takes in numbers in any order, any number of times, and tells the gaps. One thread."""

    def __init__(self, scratch: sqlite3.Connection) -> None:
        self._scratch = scratch
        self._open: dict[str, list[int]] = {}
        self._issued: dict[str, int] = {}
        scratch.execute("CREATE TABLE intervals (writer TEXT, first INTEGER, last INTEGER)")
        scratch.execute("CREATE TABLE issued (writer TEXT PRIMARY KEY, last INTEGER) WITHOUT ROWID")

    def issued(self, writer: str, number: int) -> None:
        """The writer has given out numbers up to this one."""
        if number > self._issued.get(writer, 0):
            self._issued[writer] = number
            if len(self._issued) > _MAX_OPEN:
                self._spill()

    def saw(self, writer: str, number: int) -> None:
        """A line with that number is there; 0 is no number."""
        if number <= 0:
            return
        interval = self._open.get(writer)
        if interval is not None and number == interval[1] + 1:
            interval[1] = number
            return
        if interval is not None:
            self._scratch.execute("INSERT INTO intervals VALUES (?, ?, ?)", (writer, *interval))
        self._open[writer] = [number, number]
        if len(self._open) > _MAX_OPEN:
            self._spill()

    def _spill(self) -> None:
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
        """How many writers gave out a number."""
        self._spill()
        return int(self._scratch.execute("SELECT count(*) FROM issued").fetchone()[0])

    def gaps(self) -> Iterator[Gap]:
        """The missing numbers up to what each writer is known to have issued, by writer."""
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
                expected = max(expected, last + 1)
        yield from _gap(current, expected, limit)


def _gap(writer: str, first: int, last: int) -> Iterator[Gap]:
    if first <= last:
        yield Gap(writer, first, last)
