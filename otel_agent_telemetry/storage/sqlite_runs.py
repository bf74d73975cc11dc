# ruff: noqa: S608 - names of our own columns
"""Writing runs into SQLite over the standard library: the same rows as `storage.runs`, at a fraction of its cost.

Within one IMMEDIATE transaction nobody comes between reading and writing, so which state
stands is decided in Python, from the few columns that decide almost always: whether it has
ended, and `updated_at`. Only where both are equal is the whole stored row read and compared.
An insert names only the columns that a state has; several rows share one statement, because
the driver gives the interpreter away at each and a busy application gives it back late.

A test writes the same states in any order here and through `storage.store`, and compares
runs, commits and counts. Steps that wait for a run are not looked for here: there are none
in a file that no service has written, and a service finds those that there are.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Final

from otel_agent_telemetry.columns import COLUMNS, COMMIT_COLUMNS, POSTING_COLUMNS, Fields
from otel_agent_telemetry.deletion import CutOff, Deletion, Marks
from otel_agent_telemetry.run_state import merged_state
from otel_agent_telemetry.run_totals import with_totals
from otel_agent_telemetry.status import RUNNING
from otel_agent_telemetry.storage.rows import (
    CommitValues,
    Row,
    WriteOutcome,
    clean_text,
    merged,
    row_of_state,
    storable_state,
)
from otel_agent_telemetry.storage.run_sums import refresh_sqlite

_COLUMNS: Final = frozenset(COLUMNS)
_HOUR: Final = len("2026-01-31T23")
_ROWS_A_STATEMENT: Final = 16
_MAX_STATEMENTS: Final = 200
_COMMIT_NAMES: Final = ("commit_hash", "run_id", "commit_source", "commit_author", "commit_timestamp", "associated_at")
_COMMIT_ORDER: Final = ("associated_at", "commit_source", "commit_author", "commit_timestamp")
_NEVER_POSTED: Final = (0, None, 0)
_EVENT_ID: Final = COLUMNS.index("event_id")

_STORED: Final = (
    "SELECT event_id, status, updated_at, agent_name, job_type, substr(created_at, 1, 13), "
    f"{', '.join(POSTING_COLUMNS)} FROM agent_runs WHERE event_id IN (SELECT value FROM json_each(?))"
)
_WHOLE: Final = f"SELECT {', '.join(COLUMNS)} FROM agent_runs WHERE event_id IN (SELECT value FROM json_each(?))"
_LINKS: Final = (
    "SELECT run_id, associated_at, commit_hash, commit_source, commit_author, commit_timestamp FROM commits "
    "WHERE run_id IN (SELECT value FROM json_each(?))"
)
_RECEIPT: Final = ("event_id", "run_id", "deleted_at", "deleted_by", "trace_id")
_MARKS: Final = f"SELECT {', '.join(_RECEIPT)} FROM deleted_runs WHERE event_id IN (SELECT value FROM json_each(?))"
_CUTOFF: Final = "SELECT cutoff, applied_at FROM retention_cutoffs WHERE record_type = 'run'"
_RECEIVED: Final = "received_at"
_REPLACED: Final = ", ".join(
    f"{name} = coalesce(agent_runs.{name}, excluded.{name})" if name == _RECEIVED else f"{name} = excluded.{name}"
    for name in COLUMNS
    if name != "event_id"
)
_KIND_COUNTED: Final = (
    "INSERT INTO run_counts (agent_name, job_type, status, runs) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (agent_name, job_type, status) DO UPDATE SET runs = runs + excluded.runs"
)
_HOUR_COUNTED: Final = (
    "INSERT INTO run_hours (hour, runs) VALUES (?, ?) ON CONFLICT (hour) DO UPDATE SET runs = runs + excluded.runs"
)


def _ordered(prefix: str) -> str:
    """Return the columns that order two associations, NULL as the smallest."""
    return ", ".join(f"coalesce({prefix}.{name}, '')" for name in _COMMIT_ORDER)


_LINK_KEPT: Final = (
    f"INSERT INTO commits ({', '.join(_COMMIT_NAMES)}) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (commit_hash, run_id) DO UPDATE SET "
    f"{', '.join(f'{name} = excluded.{name}' for name in _COMMIT_ORDER)} "
    f"WHERE ({_ordered('excluded')}) > ({_ordered('commits')})"
)
_LINK_SHOWN: Final = (
    f"UPDATE agent_runs SET {', '.join(f'{name} = ?' for name in COMMIT_COLUMNS)} WHERE run_id = ? "
    f"AND ({' OR '.join(f'{name} IS NOT ?' for name in COMMIT_COLUMNS)})"
)


def write_states(connection: sqlite3.Connection, states: Iterable[Fields]) -> list[WriteOutcome]:
    """Let checked states (`run_state.checked_state`) stand against what is stored; return what became of each.

    Members that are no columns, as the `record_type` of a line, are passed over. Outcomes are in
    the order of the states, of which several may be of one run; each is as `runs.upsert_runs`
    describes it. Within the connection's transaction, which must have begun IMMEDIATE. Raises
    sqlite3.Error, OverflowError.
    """
    return _Writing(connection, [storable_state(with_totals(state)) for state in states]).write()


def write_links(connection: sqlite3.Connection, links: Sequence[tuple[str, Fields]]) -> None:
    """Keep commit associations, `(run_id, payload)` each, and show the latest in every row of its run.

    Within the connection's transaction, after the states. Raises sqlite3.Error.

    An association whose run is not stored yet is kept and shown once the run is written.
    """
    if not links:
        return
    rows = [
        tuple(clean_text(run_id if name == "run_id" else payload.get(name) or None) for name in _COMMIT_NAMES)
        for run_id, payload in links
    ]
    connection.executemany(_LINK_KEPT, rows)
    shown = _latest_commits(connection, {row[1] for row in rows})
    connection.executemany(_LINK_SHOWN, [(*values, run_id, *values) for run_id, values in shown.items()])


class _Writing:
    """One call of `write_states`: which state of each run stands, and what that changes."""

    def __init__(self, connection: sqlite3.Connection, states: list[Fields]) -> None:
        self._connection = connection
        self._states = states
        self._keys = json.dumps([state["event_id"] for state in states])
        self._stored: dict[str, Row] = {row[0]: row for row in connection.execute(_STORED, (self._keys,))}
        self._whole: dict[str, Row] | None = None
        self._marks = _marks_against(connection, self._keys) if len(self._stored) < len(states) else Marks()
        self._standing: dict[str, Fields] = {}
        """`event_id` → the state to be written, for runs whose stored row does not stand."""

    def write(self) -> list[WriteOutcome]:
        """Decide, then write. Return the outcome of each state."""
        # A state without a run id reaches the database, whose refusal is the StorageError that callers expect.
        commits = _latest_commits(self._connection, (state.get("run_id", "") for state in self._states))
        outcomes: list[WriteOutcome] = []
        for state in self._states:
            commit = commits.get(state.get("run_id", ""))
            shown = state if commit is None else {**state, **dict(zip(COMMIT_COLUMNS, commit, strict=True))}
            outcomes.append(self._put(state["event_id"], shown))
        self._insert()
        self._count()
        refresh_sqlite(self._connection, self._standing)
        return outcomes

    def _put(self, event_id: str, state: Fields) -> WriteOutcome:
        """Let a state stand against those of its run before it."""
        standing = self._standing.get(event_id)
        if standing is not None:
            after: Fields | None = merged_state(standing, state)
            if after is standing:
                return "duplicate"
        else:
            before = self._stored.get(event_id)
            if before is None:
                if self._marks and self._marks.cover(state):
                    return "deleted"
                self._standing[event_id] = state
                return "inserted"
            after = self._against(before, state)
        if after is None:
            return "duplicate"
        self._standing[event_id] = after
        return "updated"

    def _against(self, before: Row, state: Fields) -> Fields | None:
        """Return what stands of a stored row and a state; None when the row stands as it is."""
        event_id, status, updated_at, *_, posted, posted_at, retries = before
        posting = (posted, posted_at, retries)
        new = (state["status"] != RUNNING, state["updated_at"])
        old = (status != RUNNING, updated_at)
        given = tuple(map(state.get, POSTING_COLUMNS, _NEVER_POSTED))
        grown = posting if given == _NEVER_POSTED else tuple(map(_greater, posting, given))
        if new > old:
            return state if grown == given else {**state, **dict(zip(POSTING_COLUMNS, grown, strict=True))}
        # The usual late state: decided without a look at the rest of the row.
        if new < old and grown == posting:
            return None
        row = self._whole_rows()[event_id]
        standing = merged(row, row_of_state(state))
        return None if standing is row else dict(zip(COLUMNS, standing, strict=True))

    def _whole_rows(self) -> dict[str, Row]:
        """Return the stored rows with every column, read once and only where few columns cannot decide."""
        if self._whole is None:
            self._whole = {row[_EVENT_ID]: row for row in self._connection.execute(_WHOLE, (self._keys,))}
        return self._whole

    def _insert(self) -> None:
        """Insert the states that stand, those with the same columns by one statement."""
        alike: defaultdict[tuple[str, ...], list[Fields]] = defaultdict(list)
        for state in self._standing.values():
            alike[tuple(state)].append(state)
        for names, states in alike.items():
            columns = tuple(name for name in names if name in _COLUMNS)
            _insert(self._connection, columns, map(itemgetter(*columns), states))

    def _count(self) -> None:
        """Add what was written to the counts of kinds and hours, and subtract what it replaced."""
        kinds: Counter[Row] = Counter()
        hours: Counter[str] = Counter()
        for event_id, state in self._standing.items():
            kinds[(state["agent_name"], state["job_type"], state["status"])] += 1
            hours[state["created_at"][:_HOUR]] += 1
            if (before := self._stored.get(event_id)) is not None:
                _, status, _, agent_name, job_type, hour, *_ = before
                kinds[(agent_name, job_type, status)] -= 1
                hours[hour] -= 1
        # A run that changes its status takes one from the old kind and adds one to the new; what cancels out is not
        # written.
        changed = [(*kind, number) for kind, number in kinds.items() if number]
        self._connection.executemany(_KIND_COUNTED, changed)
        self._connection.executemany(_HOUR_COUNTED, [item for item in hours.items() if item[1]])


def _greater(one: Any, other: Any) -> Any:
    """Return the greater of two values; None counts as the smallest."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _insert(connection: sqlite3.Connection, names: tuple[str, ...], rows: Iterator[Row]) -> None:
    """Insert rows that have the same columns, or replace those that are there."""
    for size in (_ROWS_A_STATEMENT, 1):
        statement = _insert_statement(names, size)
        while len(part := list(islice(rows, size))) == size:
            connection.execute(statement, list(chain.from_iterable(part)))
        # What is left of the last group, fewer than a statement takes, goes one by one.
        rows = iter(part)


_statements: dict[tuple[tuple[str, ...], int], str] = {}


def _insert_statement(names: tuple[str, ...], rows: int) -> str:
    """Return the SQL that inserts so many rows with these columns, from a cache of bounded size."""
    known = _statements.get((names, rows))
    if known is None:
        if len(_statements) >= _MAX_STATEMENTS:
            # Emptied whole: what is in use is built again at once, and nothing has to be counted for each use.
            _statements.clear()
        places = f"({', '.join('?' * len(names))})"
        known = _statements[(names, rows)] = (
            f"INSERT INTO agent_runs ({', '.join(names)}) VALUES {', '.join([places] * rows)} "
            f"ON CONFLICT (event_id) DO UPDATE SET {_REPLACED}"
        )
    return known


def _marks_against(connection: sqlite3.Connection, keys: str) -> Marks:
    """Return the marks that can concern states of the runs with these keys, a JSON array."""
    deleted = {row[0]: Deletion(**dict(zip(_RECEIPT, row, strict=True))) for row in connection.execute(_MARKS, (keys,))}
    row = connection.execute(_CUTOFF).fetchone()
    return Marks(deleted, None if row is None else CutOff(cutoff=row[0], applied_at=row[1]))


def _latest_commits(connection: sqlite3.Connection, run_ids: Iterable[str]) -> dict[str, CommitValues]:
    """`run_id` → the commit columns of its latest association, for those that have one.

    Empty at the cost of one query where no commit was ever associated, as in most files.
    """
    if connection.execute("SELECT 1 FROM commits LIMIT 1").fetchone() is None:
        return {}
    latest: dict[str, Row] = {}
    keys = json.dumps([clean_text(run_id) for run_id in set(run_ids)])
    for run_id, *link in connection.execute(_LINKS, (keys,)):
        row = tuple(link)
        if run_id not in latest or row[:2] > latest[run_id][:2]:
            latest[run_id] = row
    return {run_id: row[1:] for run_id, row in latest.items()}
