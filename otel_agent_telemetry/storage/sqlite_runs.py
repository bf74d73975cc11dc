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
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from otel_agent_telemetry.columns import COLUMNS, COMMIT_COLUMNS, POSTING_COLUMNS, Fields
from otel_agent_telemetry.run_state import NUMBERS
from otel_agent_telemetry.status import RUNNING
from otel_agent_telemetry.storage.rows import CommitValues, Row, clean_text, merged, storable

_HOUR: Final = len("2026-01-31T23")
_ROWS_A_STATEMENT: Final = 16
_MAX_STATEMENTS: Final = 200
_COMMIT_NAMES: Final = ("commit_hash", "run_id", "commit_source", "commit_author", "commit_timestamp", "associated_at")
_COMMIT_ORDER: Final = ("associated_at", "commit_source", "commit_author", "commit_timestamp")
_DEFAULTS: Final = {name: 0 if name in NUMBERS else None for name in COLUMNS}
_NEVER_POSTED: Final = (0, None, 0)

_STORED: Final = (
    "SELECT event_id, status, updated_at, agent_name, job_type, substr(created_at, 1, 13), "
    f"{', '.join(POSTING_COLUMNS)} FROM agent_runs WHERE event_id IN (SELECT value FROM json_each(?))"
)
_WHOLE: Final = f"SELECT {', '.join(COLUMNS)} FROM agent_runs WHERE event_id = ?"
_LINKS: Final = (
    "SELECT run_id, associated_at, commit_hash, commit_source, commit_author, commit_timestamp FROM commits "
    "WHERE run_id IN (SELECT value FROM json_each(?))"
)
_POSTED: Final = f"UPDATE agent_runs SET {', '.join(f'{name} = ?' for name in POSTING_COLUMNS)} WHERE event_id = ?"
_REPLACED: Final = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "event_id")
_KIND_COUNTED: Final = (
    "INSERT INTO run_counts (agent_name, job_type, status, runs) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (agent_name, job_type, status) DO UPDATE SET runs = runs + excluded.runs"
)
_HOUR_COUNTED: Final = (
    "INSERT INTO run_hours (hour, runs) VALUES (?, ?) ON CONFLICT (hour) DO UPDATE SET runs = runs + excluded.runs"
)


def _ordered(prefix: str) -> str:
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


def write_states(connection: sqlite3.Connection, states: Iterable[Fields]) -> None:
    """Let checked states (`run_state.checked_state`, each run at most once) stand against what is stored.

    Within the connection's transaction. Raises sqlite3.Error, OverflowError.
    """
    _Writing(connection, list(states)).write()


def write_links(connection: sqlite3.Connection, links: Sequence[tuple[str, Fields]]) -> None:
    """Keep commit associations, `(run_id, payload)` each, and show the latest in every row of its run.

    Within the connection's transaction, after the states. Raises sqlite3.Error.
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
    """One call of `write_states`."""

    def __init__(self, connection: sqlite3.Connection, states: list[Fields]) -> None:
        self._connection = connection
        self._states = states
        self._rows: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
        self._postings: list[Row] = []
        self._kinds: Counter[Row] = Counter()
        self._hours: Counter[str] = Counter()

    def write(self) -> None:
        keys = json.dumps([clean_text(state["event_id"]) for state in self._states])
        stored = {row[0]: row for row in self._connection.execute(_STORED, (keys,))}
        shown = _latest_commits(self._connection, (state["run_id"] for state in self._states))
        for state in self._states:
            commit = shown.get(state["run_id"]) if shown else None
            kept = state if commit is None else {**state, **dict(zip(COMMIT_COLUMNS, commit, strict=True))}
            before = stored.get(state["event_id"])
            if before is None:
                self._put(kept)
            else:
                self._put_against(before, kept)
        for names, rows in self._rows.items():
            _insert(self._connection, names, rows)
        self._connection.executemany(_POSTED, self._postings)
        self._count()

    def _put(self, state: Fields) -> None:
        names = tuple(state)
        values = storable(tuple(state.values()))
        self._rows[names].append(values)
        placed = dict(zip(names, values, strict=True))
        self._kinds[(placed["agent_name"], placed["job_type"], placed["status"])] += 1
        self._hours[placed["created_at"][:_HOUR]] += 1

    def _put_against(self, before: Row, state: Fields) -> None:
        """Write what differs of a state from the row that is there."""
        event_id, status, updated_at, agent_name, job_type, hour, *posting = before
        new = (state["status"] != RUNNING, state["updated_at"])
        old = (status != RUNNING, updated_at)
        if new == old:
            standing = self._tie(event_id, state)
            if standing is None:
                return
            state = standing
        elif new < old:
            grown = tuple(map(_greater, posting, (state.get(name, _DEFAULTS[name]) for name in POSTING_COLUMNS)))
            if grown != tuple(posting):
                self._postings.append((*grown, event_id))
            return
        elif tuple(posting) != _NEVER_POSTED:
            given = (state.get(name, _DEFAULTS[name]) for name in POSTING_COLUMNS)
            state = {**state, **dict(zip(POSTING_COLUMNS, map(_greater, posting, given), strict=True))}
        self._put(state)
        self._kinds[(agent_name, job_type, status)] -= 1
        self._hours[hour] -= 1

    def _tie(self, event_id: str, state: Fields) -> Fields | None:
        """What stands of two states of one moment, by every column; None when the stored one does."""
        row = self._connection.execute(_WHOLE, (event_id,)).fetchone()
        given = storable(tuple(state.get(name, _DEFAULTS[name]) for name in COLUMNS))
        standing = merged(row, given)
        return None if standing is row else dict(zip(COLUMNS, standing, strict=True))

    def _count(self) -> None:
        kinds = [(*kind, number) for kind, number in self._kinds.items() if number]
        self._connection.executemany(_KIND_COUNTED, kinds)
        self._connection.executemany(_HOUR_COUNTED, [item for item in self._hours.items() if item[1]])


def _greater(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _insert(connection: sqlite3.Connection, names: tuple[str, ...], rows: list[Row]) -> None:
    """Insert rows that have the same columns, or replace those that are there."""
    waiting = iter(rows)
    for size in (_ROWS_A_STATEMENT, 1):
        statement = _insert_statement(names, size)
        while len(part := list(islice(waiting, size))) == size:
            connection.execute(statement, [value for row in part for value in row])
        waiting = iter(part)


_statements: dict[tuple[tuple[str, ...], int], str] = {}


def _insert_statement(names: tuple[str, ...], rows: int) -> str:
    known = _statements.get((names, rows))
    if known is None:
        if len(_statements) >= _MAX_STATEMENTS:
            _statements.clear()
        places = f"({', '.join('?' * len(names))})"
        known = _statements[(names, rows)] = (
            f"INSERT INTO agent_runs ({', '.join(names)}) VALUES {', '.join([places] * rows)} "
            f"ON CONFLICT (event_id) DO UPDATE SET {_REPLACED}"
        )
    return known


def _latest_commits(connection: sqlite3.Connection, run_ids: Iterable[str]) -> dict[str, CommitValues]:
    """`run_id` → the commit columns of its latest association, for those that have one."""
    if connection.execute("SELECT 1 FROM commits LIMIT 1").fetchone() is None:
        return {}
    latest: dict[str, Row] = {}
    keys = json.dumps([clean_text(run_id) for run_id in set(run_ids)])
    for run_id, *link in connection.execute(_LINKS, (keys,)):
        row = tuple(link)
        if run_id not in latest or row[:2] > latest[run_id][:2]:
            latest[run_id] = row
    return {run_id: row[1:] for run_id, row in latest.items()}
