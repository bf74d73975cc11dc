"""Carry the commits and events of a schema version 7 database into the tables of version 8.

Version 7 was written by several programs, whose `commits` and `run_events` have columns of various
names. What can be read is copied; the old tables stay beside the new ones as `{table}_version_7`,
and notes say how many of their rows were copied. Written out as version 8 is, like `version_7`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from sqlalchemy import Connection, inspect, text

from otel_agent_telemetry.storage.version_7 import event_id_of_version_7, json_of_version_7, text_of, time_of_version_7

_COMMIT: Final = re.compile(r"[0-9a-f]{7,40}", re.IGNORECASE)
_COMMIT_SOURCES: Final = frozenset({"manual", "llm", "ci"})
_ROWS_AT_A_TIME: Final = 500
_INSERT_COMMIT: Final = (
    "INSERT OR IGNORE INTO commits"
    " (commit_hash, run_id, commit_source, commit_author, commit_timestamp, associated_at) VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_EVENT: Final = (
    "INSERT INTO run_events (event_id, run_id, event_type, timestamp, payload_json, span_id, seq)"
    " VALUES (?, ?, ?, ?, ?, '', ?)"
)

_Row = Mapping[str, Any]


def carry_commits(connection: Connection) -> str:
    """Copy the rows of `commits_version_7` that name a commit and a run; return a note about it."""
    total = copied = 0
    for row in _rows(connection, "commits_version_7"):
        total += 1
        commit = _commit_of(connection, row)
        if commit is not None:
            copied += 1
            connection.exec_driver_sql(_INSERT_COMMIT, commit)
    return _note("commits", copied, total)


def carry_events(connection: Connection) -> str:
    """Copy the rows of `run_events_version_7` that have a type, a time and a stored run; return a note about it."""
    total = copied = 0
    numbers: Counter[str] = Counter()
    for row in _rows(connection, "run_events_version_7"):
        total += 1
        event = _event_of(connection, row)
        if event is not None:
            copied += 1
            numbers[event[0]] += 1
            connection.exec_driver_sql(_INSERT_EVENT, (*event, numbers[event[0]]))
    return _note("run_events", copied, total)


def lost_objects(connection: Connection) -> str:
    """Return a note about the indexes and triggers of `agent_runs`, which go with the old table; "" without any."""
    found = connection.execute(
        text("SELECT type, name FROM sqlite_master WHERE tbl_name = 'agent_runs' AND sql IS NOT NULL ORDER BY 1, 2")
    )
    names = [f"{kind} {name}" for kind, name in found if kind in ("index", "trigger")]
    if not names:
        return ""
    return f"not carried over, and kept in the backup alone: {', '.join(names)} of agent_runs"


def _rows(connection: Connection, table: str) -> Iterator[_Row]:
    """Yield the rows of a table, in order of insertion, some hundred in memory at a time."""
    without_rowid = inspect(connection).get_table_options(table).get("sqlite_with_rowid") is False
    order = "" if without_rowid else " ORDER BY rowid"
    found = connection.execution_options(stream_results=True).execute(text(f"SELECT * FROM {table}{order}"))  # noqa: S608 - ours
    for part in found.mappings().partitions(_ROWS_AT_A_TIME):
        yield from map(dict, part)


def _commit_of(connection: Connection, row: _Row) -> tuple[Any, ...] | None:
    """Return the values of a commit association; None for a row that names no commit or no run."""
    commit = _first(row, ("commit_hash", "git_commit_hash", "hash", "sha"))
    run = _run_of(connection, row)
    if commit is None or run is None or _COMMIT.fullmatch(commit) is None:
        return None
    source = (_first(row, ("commit_source", "source")) or "").lower()
    at = _first(row, ("commit_timestamp", "timestamp", "committed_at"))
    since = _first(row, ("associated_at", "created_at", "updated_at")) or at or run[2]
    return (
        commit,
        run[1],
        source if source in _COMMIT_SOURCES else "manual",
        _first(row, ("commit_author", "author")),
        None if at is None else time_of_version_7(at),
        time_of_version_7(since),
    )


def _event_of(connection: Connection, row: _Row) -> tuple[Any, ...] | None:
    """Return the values of an event, but for its number; None for a row without type or time, or of no run."""
    kind = _first(row, ("event_type", "type", "name"))
    at = _first(row, ("timestamp", "event_timestamp", "created_at", "time"))
    run = _run_of(connection, row)
    if kind is None or at is None or run is None:
        return None
    payload = _first(row, ("payload_json", "payload", "data", "event_data"))
    return run[0], run[1], kind, time_of_version_7(at), None if payload is None else json_of_version_7(payload)


def _run_of(connection: Connection, row: _Row) -> tuple[str, str, str] | None:
    """Return `event_id`, `run_id` and creation of the run that a row belongs to; None when it is not stored.

    By its `run_id`, else by its `event_id`, which in some databases is the event's own.
    """
    for name in ("run_id", "event_id"):
        wanted = _first(row, (name,))
        if wanted is None:
            continue
        wanted = event_id_of_version_7(wanted) if name == "event_id" else wanted
        query = (
            f"SELECT event_id, run_id, created_at FROM agent_runs WHERE {name} = ?"  # noqa: S608 - of the two names
            " ORDER BY created_at DESC, id DESC LIMIT 1"
        )
        found = connection.exec_driver_sql(query, (wanted,)).first()
        if found is not None:
            return found[0], found[1], found[2]
    return None


def _first(row: _Row, names: Iterable[str]) -> str | None:
    """Return the first of these values that is not empty, as text."""
    return next((text_of(row[name]) for name in names if row.get(name) not in (None, "", b"")), None)


def _note(table: str, copied: int, total: int) -> str:
    """Return the sentence about rows that an upgrade has left behind."""
    return f"{copied} of {total} rows of {table} were carried over; the table as it was is {table}_version_7"
