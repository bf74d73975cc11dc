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

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from otel_agent_telemetry.clock import normal_iso
from otel_agent_telemetry.status import RUNNING, canonical_status
from otel_agent_telemetry.storage.queries import RunState
from otel_agent_telemetry.wire import Line

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
_NOT_WAITING: Final = (
    "NOT EXISTS (SELECT 1 FROM waiting AS w WHERE w.event_id = j.event_id "
    "AND (w.ended, w.updated_at) >= (j.ended, j.updated_at))"
)
_NOT_STORED: Final = (
    "FROM journalled AS j LEFT JOIN stored AS s USING (event_id) LEFT JOIN refused AS r USING (event_id) "
    f"WHERE s.event_id IS NULL AND {_NOT_WAITING}"
)
_FINDINGS: Final = {
    "missing": f"{_NOT_STORED} AND r.event_id IS NULL",
    "refused": f"{_NOT_STORED} AND r.event_id IS NOT NULL",
    "older": "FROM journalled AS j JOIN stored AS s USING (event_id) "
    f"WHERE (j.ended, j.updated_at) > (s.ended, s.updated_at) AND {_NOT_WAITING}",
    "ahead": "FROM journalled AS j JOIN stored AS s USING (event_id) "
    "WHERE (s.ended, s.updated_at) > (j.ended, j.updated_at)",
    "unjournalled": "FROM stored AS j WHERE NOT EXISTS (SELECT 1 FROM journalled AS k WHERE k.event_id = j.event_id)",
}


@dataclass(frozen=True, slots=True)
class RunName:
    """A run of a finding; `run_id` is "" when only the database has the run."""

    event_id: str
    run_id: str


class RunLedger:
    """Collects states in any order and finds where journal, buffer and database differ. Not safe under threads."""

    def __init__(self, scratch: sqlite3.Connection) -> None:
        self._scratch = scratch
        self._latest: dict[str, tuple[str, int, str]] = {}
        scratch.executescript(_TABLES)

    def journalled(self, record: Line) -> None:
        """Add a `run` line of the journal."""
        event_id, state = str(record.get("event_id")), _state_of(record)
        known = self._latest.get(event_id)
        if known is None or state > known[1:]:
            self._latest[event_id] = (str(record.get("run_id")), *state)
        # Most runs have several states close together, so memory merges them before the disk does.
        if len(self._latest) >= _MAX_IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        rows = [(event_id, *state) for event_id, state in self._latest.items()]
        self._scratch.executemany(f"INSERT INTO journalled VALUES (?, ?, ?, ?) {_LATER}", rows)  # noqa: S608 - constants
        self._latest.clear()

    def waiting(self, records: Iterable[Line]) -> None:
        """Add `run` lines of the buffer that the target has not confirmed."""
        rows = ((str(record.get("event_id")), *_state_of(record)) for record in records)
        self._scratch.executemany(f"INSERT INTO waiting VALUES (?, ?, ?) {_LATER}", rows)  # noqa: S608 - constants

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
        self._spill()
        return int(self._scratch.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - constants

    def finding(self, name: str, *, limit: int) -> tuple[int, list[RunName]]:
        """Return how many runs a finding (a key of `_FINDINGS`) has, and the first `limit` of them."""
        self._spill()
        clause = _FINDINGS[name]
        total = int(self._scratch.execute(f"SELECT count(*) {clause}").fetchone()[0])
        # The table of stored rows has no run ids.
        run_id = "''" if name == "unjournalled" else "j.run_id"
        chosen = f"SELECT j.event_id, {run_id} {clause} ORDER BY j.event_id LIMIT ?"
        return total, [RunName(*row) for row in self._scratch.execute(chosen, (limit,))]


def run_lines(records: Iterable[Line]) -> Iterator[Line]:
    """Yield the run states among these records: of type `run`, with an `event_id`."""
    return (record for record in records if record.get("record_type") == "run" and record.get("event_id"))


def _state_of(record: Line) -> tuple[int, str]:
    """Return what orders two states: whether it has ended, and `updated_at`."""
    word = canonical_status(record.get("status", RUNNING)) or RUNNING
    return int(word != RUNNING), _instant(record.get("updated_at") or record.get("created_at"))


def _instant(value: Any) -> str:
    """Return a time in the database's form; text that is not a time is returned unchanged."""
    text = str(value or "")
    # Nearly every time has the stored form already; parsing would be most of the work.
    if len(text) == _ISO_LENGTH and text.endswith("+00:00"):
        return text
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
        """The number of missing lines."""
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

    def saw(self, writer: str, number: int) -> None:
        """Note that a line has this number; 0 stands for a line without one."""
        if number <= 0:
            return
        interval = self._open.get(writer)
        # The usual case: the next line of the same writer.
        if interval is not None and number == interval[1] + 1:
            interval[1] = number
            return
        if interval is not None:
            self._scratch.execute("INSERT INTO intervals VALUES (?, ?, ?)", (writer, *interval))
        self._open[writer] = [number, number]
        if len(self._open) > _MAX_IN_MEMORY:
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


def _gap(writer: str, first: int, last: int) -> Iterator[Gap]:
    """Yield the gap from `first` to `last`, nothing when it is empty."""
    if first <= last:
        yield Gap(writer, first, last)
