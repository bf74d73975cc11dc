# ruff: noqa: S608 - names of our own tables
"""Bookkeeping of runs for `verify` in bounded memory: the latest state of every run, here and there.

The rows are kept in `scratch`, a temporary SQLite database, whatever the number of runs:

    journalled(event_id, run_id, ended, updated_at, content, identity, settled, place, twice)
                                                      latest state in the journal
    waiting(event_id, ended, updated_at)              latest state in the buffer, not confirmed
    refused(event_id)                                 kept in `rejected/`
    stored(event_id, ended, updated_at, content, twice)   the database's rows
    deleted(event_id)                                 runs that have a receipt of their deletion

Of two states the one that has ended is later, then the one with the greater `updated_at`
(the first two rules of the model). `content` and `identity` are hashes, of the whole state
(`run_content`) and of what never changes within a run; `settled` is the time by which a cut-off
decides (`deletion.is_before`), NULL without a cut-off; `place` is the day and the host under which
a service has the run; `twice` says that two runs have one `event_id`.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.clock import normal_iso
from otel_agent_telemetry.deletion import MARK_EVENTS, Marks, mark_of
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.run_content import added_digests, content_of, run_digest
from otel_agent_telemetry.run_state import checked_state
from otel_agent_telemetry.status import RUNNING, STATUSES, canonical_status
from otel_agent_telemetry.storage.contents import StoredContent
from otel_agent_telemetry.storage.rows import storable_state
from otel_agent_telemetry.wire import RUN, Line

# Bounds the memory for a journal of any size: further states go to a temporary file.
_MAX_IN_MEMORY: Final = 10_000
_ISO_LENGTH: Final = 32
_DAY: Final = len("2026-01-31")
_event_id_of: Final = itemgetter(0)

_TABLES: Final = (
    """journalled (event_id TEXT PRIMARY KEY, run_id TEXT, ended INTEGER, updated_at TEXT, content INTEGER,
    identity INTEGER, settled TEXT, place TEXT, twice INTEGER)""",
    "waiting (event_id TEXT PRIMARY KEY, ended INTEGER, updated_at TEXT)",
    "refused (event_id TEXT PRIMARY KEY)",
    "stored (event_id TEXT PRIMARY KEY, ended INTEGER, updated_at TEXT, content INTEGER, twice INTEGER)",
    "deleted (event_id TEXT PRIMARY KEY)",
    "unaltered (event_id TEXT PRIMARY KEY)",
)
_IS_LATER: Final = "(excluded.ended, excluded.updated_at) > (ended, updated_at)"
_LATER: Final = (
    f"ON CONFLICT (event_id) DO UPDATE SET ended = excluded.ended, updated_at = excluded.updated_at WHERE {_IS_LATER}"
)
_OF_A_STATE: Final = ("run_id", "ended", "updated_at", "content", "identity", "settled", "place")
_ADD_JOURNALLED: Final = (
    "INSERT INTO journalled VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO UPDATE SET "
    "twice = max(twice, excluded.twice, identity <> excluded.identity), "
    + ", ".join(f"{name} = CASE WHEN {_IS_LATER} THEN excluded.{name} ELSE {name} END" for name in _OF_A_STATE)
)
_ADD_EQUAL: Final = (
    "INSERT OR IGNORE INTO stored SELECT event_id, ended, updated_at, content, 0 FROM journalled WHERE place = ?"
)
_ADD_STORED: Final = "INSERT INTO stored VALUES (?, ?, ?, ?, 0) ON CONFLICT (event_id) DO UPDATE SET twice = 1"
_IS_WAITING: Final = (
    "EXISTS (SELECT 1 FROM waiting AS w WHERE w.event_id = j.event_id "
    "AND (w.ended, w.updated_at) >= (j.ended, j.updated_at))"
)
_JOINED: Final = "FROM journalled AS j LEFT JOIN stored AS s USING (event_id)"
_IS_REFUSED: Final = "EXISTS (SELECT 1 FROM refused AS r WHERE r.event_id = j.event_id)"
_HAS_RECEIPT: Final = "EXISTS (SELECT 1 FROM deleted AS d WHERE d.event_id = j.event_id)"
_IS_DELETED: Final = f"(coalesce(j.settled < :cutoff, 0) OR {_HAS_RECEIPT})"
_DIFFERS: Final = "j.ended = s.ended AND j.updated_at = s.updated_at AND j.content <> s.content"
_CONDITIONS: Final = {
    "missing": f"s.event_id IS NULL AND NOT {_IS_WAITING} AND NOT {_IS_REFUSED} AND NOT {_IS_DELETED}",
    "refused": f"s.event_id IS NULL AND NOT {_IS_WAITING} AND {_IS_REFUSED} AND NOT {_IS_DELETED}",
    "older": f"(j.ended, j.updated_at) > (s.ended, s.updated_at) AND NOT {_IS_WAITING}",
    "altered": f"{_DIFFERS} AND NOT EXISTS (SELECT 1 FROM unaltered AS u WHERE u.event_id = j.event_id)",
    "twice": "j.twice OR s.twice",
    "ahead": "(s.ended, s.updated_at) > (j.ended, j.updated_at)",
}
_NOT_JOURNALLED: Final = "NOT EXISTS (SELECT 1 FROM journalled AS k WHERE k.event_id = j.event_id)"
_STORED_ALONE: Final = {
    "undeleted": f"FROM stored AS j WHERE {_HAS_RECEIPT}",
    "unjournalled": f"FROM stored AS j WHERE {_NOT_JOURNALLED}",
}
FINDINGS: Final = (*_CONDITIONS, *_STORED_ALONE)
_COUNTS: Final = f"SELECT {', '.join(f'total({condition})' for condition in _CONDITIONS.values())} {_JOINED}"
"""One pass: how many runs each condition holds for."""


@dataclass(frozen=True, slots=True)
class RunName:
    """A run of a finding; `run_id` is "" when only the database has the run."""

    event_id: str
    run_id: str


class Finding(NamedTuple):
    """How many runs a finding has, and the first few of them."""

    total: int
    runs: list[RunName]


Summary = tuple[int, str]
"""What a state says as one number, and its place: "" where that does not matter."""
_Latest = tuple[int, str, Line, bool]
"""The latest state of a run among lines in memory: what orders it, its line, and whether two runs have its id."""


class RunLedger:
    """Collects states in any order and finds where journal, buffer and database differ. Not safe under threads."""

    def __init__(
        self,
        scratch: sqlite3.Connection,
        *,
        summary_of: Callable[[Line], Summary] | None = None,
        has_cutoff: bool = True,
    ) -> None:
        """Make an empty ledger. `summary_of` a line: default for a database here, which is the cheapest.

        `has_cutoff`: whether a retention may have deleted runs; without one, no run counts as deleted by it.
        """
        self._has_cutoff = has_cutoff
        self._scratch = scratch
        self._summary_of = summary_of or _hashed
        self._latest: dict[str, _Latest] = {}
        self._cutoff = ""
        self.marks = Marks()
        """The marks that lines of the journal carry."""
        # Not `executescript`, which commits first: outside a transaction each statement writes its pages to the file.
        for table in _TABLES:
            scratch.execute(f"CREATE TABLE {table} WITHOUT ROWID")

    def journalled(self, records: Iterable[Line]) -> None:
        """Add the `run` lines among lines of the journal, and the marks of deletions among the others."""
        latest = self._latest
        for record in records:
            if record.get("record_type") != RUN or not record.get("event_id"):
                if record.get("event_type") in MARK_EVENTS:
                    self.marks.add(mark_of(record))
                continue
            # In one spelling: the database stores ids in lower case, whatever a line has.
            event_id, (ended, at) = str(record["event_id"]).lower(), _state_of(record)
            known = latest.get(event_id)
            if known is None:
                latest[event_id] = (ended, at, record, False)
                continue
            first = known[2]
            # Both are given once, when a run begins: a state that contradicts them is of another run with the same id.
            twice = known[3] or (
                first.get("run_id") != record.get("run_id") or first.get("created_at") != record.get("created_at")
            )
            if (ended, at) > known[:2]:
                latest[event_id] = (ended, at, record, twice)
            elif twice:
                latest[event_id] = (*known[:3], twice)
        # Most runs have several states close together, so memory merges them before the disk does.
        if len(latest) >= _MAX_IN_MEMORY:
            self._spill()

    def _spilled(self) -> sqlite3.Connection:
        """Return the temporary database with everything that was noted so far."""
        self._spill()
        return self._scratch

    def _spill(self) -> None:
        """Move the latest states in memory to the temporary database."""
        # In order of the key: the rows of a page are written one after another.
        self._scratch.executemany(_ADD_JOURNALLED, sorted(map(self._row_of, self._latest.items()), key=_event_id_of))
        self._latest.clear()

    def _row_of(self, item: tuple[str, _Latest]) -> tuple[Any, ...]:
        """Return the row of `journalled` for a run's latest state."""
        event_id, (ended, updated_at, line, twice) = item
        settled = None
        if self._has_cutoff:
            end = (line.get("end_time") or "") if ended else updated_at
            settled = max(str(line.get("created_at") or ""), str(end))
        content, place = self._summary_of(line)
        identity = hash((line.get("run_id"), line.get("created_at")))
        return event_id, str(line.get("run_id")), ended, updated_at, content, identity, settled, place, twice

    def waiting(self, records: Iterable[Line]) -> None:
        """Add `run` lines of the buffer that the target has not confirmed."""
        rows = ((str(record.get("event_id")), *_state_of(record)) for record in records)
        self._scratch.executemany(f"INSERT INTO waiting VALUES (?, ?, ?) {_LATER}", rows)

    def refused(self, records: Iterable[Line]) -> None:
        """Add `run` lines that the target rejected."""
        rows = ((str(record.get("event_id")),) for record in records)
        self._scratch.executemany("INSERT OR IGNORE INTO refused VALUES (?)", rows)

    def stored(self, runs: Iterable[StoredContent]) -> None:
        """Add the rows of the database."""
        self.stored_digests((event_id, status, at, hash(content)) for event_id, status, at, content in runs)

    def stored_digests(self, runs: Iterable[tuple[str, str, str, int]]) -> None:
        """Add stored runs: `event_id`, `status`, `updated_at` and what `summary_of` makes of their content."""
        rows = ((event_id.lower(), status != RUNNING, at, content) for event_id, status, at, content in runs)
        while chunk := list(islice(rows, _MAX_IN_MEMORY)):
            self._scratch.executemany(_ADD_STORED, sorted(chunk, key=_event_id_of))

    def places(self) -> list[tuple[str, int, str]]:
        """Return each place of the journal's runs, how many runs it has, and their digest."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for place, content in self._spilled().execute("SELECT place, content FROM journalled"):
            found[place].append(content)
        return [(place, len(digests), added_digests(digests)) for place, digests in sorted(found.items())]

    def all_stored(self, place: str) -> None:
        """Note that the runs of a place are stored as the journal has them."""
        self._spilled().execute(_ADD_EQUAL, (place,))

    def deleted(self, marks: Marks) -> None:
        """Add the marks of deletions; of several cut-offs the latest counts."""
        self._scratch.executemany("INSERT OR IGNORE INTO deleted VALUES (?)", ((one,) for one in marks.deleted))
        if marks.cutoff is not None:
            self._cutoff = max(self._cutoff, marks.cutoff.cutoff)

    def differing(self, *, after: str, limit: int) -> list[str]:
        """Return the `event_id` of runs whose contents differ, in order, at most `limit` after one of them."""
        selected = f"SELECT j.event_id {_JOINED} WHERE {_DIFFERS} AND j.event_id > ? ORDER BY j.event_id LIMIT ?"
        return [event_id for (event_id,) in self._spilled().execute(selected, (after, limit))]

    def unaltered(self, event_ids: Iterable[str]) -> None:
        """Note runs whose contents differ in nothing but their spelling."""
        self._scratch.executemany("INSERT OR IGNORE INTO unaltered VALUES (?)", ((one,) for one in event_ids))

    def count(self, table: str) -> int:
        """Return how many runs a table has: `journalled`, `waiting` or `stored`."""
        selected = f"SELECT count(*) FROM {table}"
        return int(self._spilled().execute(selected).fetchone()[0])

    def findings(self, *, limit: int) -> dict[str, Finding]:
        """Return for each of `FINDINGS` how many runs it has, and the first `limit` of them."""
        values = {"cutoff": self._cutoff, "limit": limit}
        counts = list(map(int, self._spilled().execute(_COUNTS, values).fetchone()))
        alone = (f"SELECT count(*) {selected}" for selected in _STORED_ALONE.values())
        counts += [int(self._scratch.execute(selected).fetchone()[0]) for selected in alone]
        named = zip(FINDINGS, counts, strict=True)
        return {name: Finding(count, self._first(name, values) if count else []) for name, count in named}

    def _first(self, name: str, values: dict[str, Any]) -> list[RunName]:
        """Return the first few runs of a finding, in the order of their ids."""
        if name in _CONDITIONS:
            selected = f"SELECT j.event_id, j.run_id {_JOINED} WHERE {_CONDITIONS[name]}"
        else:
            selected = f"SELECT j.event_id, '' {_STORED_ALONE[name]}"  # the table of stored rows has no run ids
        rows = self._scratch.execute(f"{selected} ORDER BY j.event_id LIMIT :limit", values)
        return [RunName(*row) for row in rows]


def run_lines(records: Iterable[Line]) -> Iterator[Line]:
    """Yield the run states among these records: of type `run`, with an `event_id`."""
    return (record for record in records if record.get("record_type") == "run" and record.get("event_id"))


def _hashed(line: Line) -> Summary:
    """Return the hash of a line's content, as it stands there; equal within this process only."""
    return hash(content_of(line)), ""


def digested(line: Line) -> Summary:
    """Return the digest and the place of a line's state, as it is stored: to compare with another machine."""
    try:
        state = storable_state(checked_state(line))
    except RecordError:  # delivery refuses it too
        return 0, ""
    return run_digest(state), f"{state['created_at'][:_DAY]} {state.get('host', '')}"


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
