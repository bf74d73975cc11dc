"""The latest state of every run as the journal, the buffer and the database know it, on disk.

Four tables of a temporary SQLite database (`scratch`), so that memory stays bounded
whatever the number of runs:

    journalled(event_id, run_id, ended, updated_at)   greatest state in the journal
    waiting(event_id, ended, updated_at)              greatest state in the buffer, not confirmed
    refused(event_id)                                 set aside in `rejected/`
    stored(event_id, ended, updated_at)               the database's rows

A state counts as later by the first two of the model's rules: ended, then `updated_at`.

Which sequence numbers of each writer were seen, and which are missing, in bounded memory.

A writer numbers its lines 1, 2, 3 … (`wire`). Numbers come nearly in order, so what is kept
of a writer is the interval being extended; intervals that ended go to a temporary SQLite
table and are merged at the end. Two tables of `scratch`:

    intervals(writer, first, last)
    issued(writer, last)            the highest number known to have been given out
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

_MAX_FOLDED: Final = 10_000
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
    """A run of a finding; `run_id` is "" where only the database knows it."""

    event_id: str
    run_id: str


class RunLedger:
    """Takes in states in any order and tells where the three places differ. One thread."""

    def __init__(self, scratch: sqlite3.Connection) -> None:
        self._scratch = scratch
        self._folded: dict[str, tuple[str, int, str]] = {}
        scratch.executescript(_TABLES)

    def journalled(self, record: Line) -> None:
        """A `run` line of the journal."""
        event_id, state = str(record.get("event_id")), _state_of(record)
        known = self._folded.get(event_id)
        if known is None or state > known[1:]:
            self._folded[event_id] = (str(record.get("run_id")), *state)
        if len(self._folded) >= _MAX_FOLDED:
            self._spill()

    def _spill(self) -> None:
        rows = [(event_id, *state) for event_id, state in self._folded.items()]
        self._scratch.executemany(f"INSERT INTO journalled VALUES (?, ?, ?, ?) {_LATER}", rows)  # noqa: S608 - constants
        self._folded.clear()

    def waiting(self, records: Iterable[Line]) -> None:
        """`run` lines of the buffer that the target has not confirmed."""
        rows = ((str(record.get("event_id")), *_state_of(record)) for record in records)
        self._scratch.executemany(f"INSERT INTO waiting VALUES (?, ?, ?) {_LATER}", rows)  # noqa: S608 - constants

    def refused(self, records: Iterable[Line]) -> None:
        """`run` lines that the target refused for good."""
        rows = ((str(record.get("event_id")),) for record in records)
        self._scratch.executemany("INSERT OR IGNORE INTO refused VALUES (?)", rows)

    def stored(self, states: Iterable[RunState]) -> None:
        """The rows of the database."""
        rows = ((state.event_id, int(state.status != RUNNING), state.updated_at) for state in states)
        while part := list(islice(rows, _MAX_FOLDED)):
            self._scratch.executemany("INSERT OR REPLACE INTO stored VALUES (?, ?, ?)", part)

    def count(self, table: str) -> int:
        """How many runs a place knows: `journalled`, `waiting` or `stored`."""
        self._spill()
        return int(self._scratch.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - our names

    def finding(self, name: str, *, limit: int) -> tuple[int, list[RunName]]:
        """How many runs, and the first few: a key of `_FINDINGS`."""
        self._spill()
        clause = _FINDINGS[name]
        total = int(self._scratch.execute(f"SELECT count(*) {clause}").fetchone()[0])
        run_id = "''" if name == "unjournalled" else "j.run_id"
        chosen = f"SELECT j.event_id, {run_id} {clause} ORDER BY j.event_id LIMIT ?"
        return total, [RunName(*row) for row in self._scratch.execute(chosen, (limit,))]


def run_lines(records: Iterable[Line]) -> Iterator[Line]:
    """The run states among some records, each with an `event_id`."""
    return (record for record in records if record.get("record_type") == "run" and record.get("event_id"))


def _state_of(record: Line) -> tuple[int, str]:
    word = canonical_status(record.get("status", RUNNING)) or RUNNING
    return int(word != RUNNING), _instant(record.get("updated_at") or record.get("created_at"))


def _instant(value: Any) -> str:
    """A time as the database holds it; what is no time is kept as it is."""
    text = str(value or "")
    if len(text) == _ISO_LENGTH and text.endswith("+00:00"):
        return text
    try:
        return normal_iso(text)
    except (ValueError, OverflowError):
        return text


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
