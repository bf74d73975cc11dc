# ruff: noqa: S608 - names of our own tables
"""Bookkeeping of `verify` in bounded memory: the latest state of every run, and line numbers by writer.

Both ledgers keep their rows in `scratch`, a temporary SQLite database, whatever the number of
runs. `RunLedger` has four tables:

    journalled(event_id, run_id, ended, updated_at)   latest state in the journal
    waiting(event_id, ended, updated_at)              latest state in the buffer, not confirmed
    refused(event_id)                                 kept in `rejected/`
    stored(event_id, ended, updated_at)               the database's rows

Of two states the one that has ended is later, then the one with the greater `updated_at`
(the first two rules of the model).

`SequenceLedger` finds missing lines: a writer numbers its lines 1, 2, 3 … (`wire`). Numbers
arrive nearly in order, so it extends one interval for each writer; an interval that ended goes
to `scratch`, and all are merged at the end. Two tables:

    intervals(writer, first, last)
    issued(writer, last)            the highest number that the writer is known to have used
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.clock import normal_iso
from otel_agent_telemetry.status import RUNNING, STATUSES, canonical_status
from otel_agent_telemetry.storage.queries import RunState
from otel_agent_telemetry.wire import RUN, Line

# Bounds the memory for a journal of any size: further states go to a temporary file.
_MAX_IN_MEMORY: Final = 10_000
_ISO_LENGTH: Final = 32

_TABLES: Final = """
CREATE TABLE journalled (event_id TEXT PRIMARY KEY, run_id TEXT, ended INTEGER, updated_at TEXT) WITHOUT ROWID;
CREATE TABLE waiting (event_id TEXT PRIMARY KEY, ended INTEGER, updated_at TEXT) WITHOUT ROWID;
CREATE TABLE refused (event_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE stored (event_id TEXT PRIMARY KEY, ended INTEGER, updated_at TEXT) WITHOUT ROWID;
"""
_LATER: Final = (
    "ON CONFLICT (event_id) DO UPDATE SET ended = excluded.ended, updated_at = excluded.updated_at "
    "WHERE (excluded.ended, excluded.updated_at) > (ended, updated_at)"
)
_IS_WAITING: Final = (
    "EXISTS (SELECT 1 FROM waiting AS w WHERE w.event_id = j.event_id "
    "AND (w.ended, w.updated_at) >= (j.ended, j.updated_at))"
)
_JOINED: Final = "FROM journalled AS j LEFT JOIN stored AS s USING (event_id)"
_IS_REFUSED: Final = "EXISTS (SELECT 1 FROM refused AS r WHERE r.event_id = j.event_id)"
_CONDITIONS: Final = {
    "missing": f"s.event_id IS NULL AND NOT {_IS_WAITING} AND NOT {_IS_REFUSED}",
    "refused": f"s.event_id IS NULL AND NOT {_IS_WAITING} AND {_IS_REFUSED}",
    "older": f"(j.ended, j.updated_at) > (s.ended, s.updated_at) AND NOT {_IS_WAITING}",
    "ahead": "(s.ended, s.updated_at) > (j.ended, j.updated_at)",
}
_UNJOURNALLED: Final = "FROM stored AS j WHERE NOT EXISTS (SELECT 1 FROM journalled AS k WHERE k.event_id = j.event_id)"
FINDINGS: Final = (*_CONDITIONS, "unjournalled")
_COUNTS: Final = (
    f"SELECT {', '.join(f'total({condition})' for condition in _CONDITIONS.values())}, count(s.event_id) {_JOINED}"
)
"""One pass: how many runs each condition holds for, and how many runs are in both tables."""


@dataclass(frozen=True, slots=True)
class RunName:
    """A run of a finding; `run_id` is "" when only the database has the run."""

    event_id: str
    run_id: str


class Finding(NamedTuple):
    """How many runs a finding has, and the first few of them."""

    total: int
    runs: list[RunName]


class RunLedger:
    """Collects states in any order and finds where journal, buffer and database differ. Not safe under threads."""

    def __init__(self, scratch: sqlite3.Connection) -> None:
        self._scratch = scratch
        self._latest: dict[str, tuple[str, int, str]] = {}
        scratch.executescript(_TABLES)

    def journalled(self, records: Iterable[Line]) -> None:
        """Add the `run` lines among lines of the journal."""
        latest = self._latest
        for record in records:
            if record.get("record_type") != RUN or not record.get("event_id"):
                continue
            event_id, (ended, at) = str(record["event_id"]), _state_of(record)
            known = latest.get(event_id)
            if known is None or (ended, at) > (known[1], known[2]):
                latest[event_id] = (str(record.get("run_id")), ended, at)
        # Most runs have several states close together, so memory merges them before the disk does.
        if len(latest) >= _MAX_IN_MEMORY:
            self._spill()

    def _spilled(self) -> sqlite3.Connection:
        self._spill()
        return self._scratch

    def _spill(self) -> None:
        rows = [(event_id, *state) for event_id, state in self._latest.items()]
        self._scratch.executemany(f"INSERT INTO journalled VALUES (?, ?, ?, ?) {_LATER}", rows)
        self._latest.clear()

    def waiting(self, records: Iterable[Line]) -> None:
        """Add `run` lines of the buffer that the target has not confirmed."""
        rows = ((str(record.get("event_id")), *_state_of(record)) for record in records)
        self._scratch.executemany(f"INSERT INTO waiting VALUES (?, ?, ?) {_LATER}", rows)

    def refused(self, records: Iterable[Line]) -> None:
        """Add `run` lines that the target rejected."""
        rows = ((str(record.get("event_id")),) for record in records)
        self._scratch.executemany("INSERT OR IGNORE INTO refused VALUES (?)", rows)

    def stored(self, states: Iterable[RunState]) -> None:
        """Add the rows of the database."""
        rows = ((state.event_id, int(state.status != RUNNING), state.updated_at) for state in states)
        while chunk := list(islice(rows, _MAX_IN_MEMORY)):
            self._scratch.executemany("INSERT OR REPLACE INTO stored VALUES (?, ?, ?)", chunk)

    def count(self, table: str) -> int:
        """Return how many runs a table has: `journalled`, `waiting` or `stored`."""
        selected = f"SELECT count(*) FROM {table}"
        return int(self._spilled().execute(selected).fetchone()[0])

    def findings(self, *, limit: int) -> dict[str, Finding]:
        """Return for each of `FINDINGS` how many runs it has, and the first `limit` of them."""
        *counts, in_both = map(int, self._spilled().execute(_COUNTS).fetchone())
        counts.append(self.count("stored") - in_both)
        named = zip(FINDINGS, counts, strict=True)
        return {name: Finding(count, self._first(name, limit) if count else []) for name, count in named}

    def _first(self, name: str, limit: int) -> list[RunName]:
        if name in _CONDITIONS:
            selected = f"SELECT j.event_id, j.run_id {_JOINED} WHERE {_CONDITIONS[name]}"
        else:
            selected = f"SELECT j.event_id, '' {_UNJOURNALLED}"  # the table of stored rows has no run ids
        rows = self._scratch.execute(f"{selected} ORDER BY j.event_id LIMIT ?", (limit,))
        return [RunName(*row) for row in rows]


def run_lines(records: Iterable[Line]) -> Iterator[Line]:
    """Yield the run states among these records: of type `run`, with an `event_id`."""
    return (record for record in records if record.get("record_type") == "run" and record.get("event_id"))


def _state_of(record: Line) -> tuple[int, str]:
    """Return what orders two states: whether it has ended, and `updated_at`."""
    word = record.get("status", RUNNING)
    if word not in STATUSES:
        word = canonical_status(word) or RUNNING
    return int(word != RUNNING), _instant(record.get("updated_at") or record.get("created_at"))


def _instant(value: Any) -> str:
    """Return a time in the database's form; text that is not a time is returned unchanged."""
    # Nearly every time has the stored form already; parsing would be most of the work.
    if type(value) is str and len(value) == _ISO_LENGTH and value.endswith("+00:00"):
        return value
    text = str(value or "")
    try:
        return normal_iso(text)
    except (ValueError, OverflowError):
        return text


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
