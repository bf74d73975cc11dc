"""How `copy_db` writes a batch of rows, and how it sees that a database has them. Repeating either is harmless.

Runs and commits go the way of every run and commit, so a later state in the target stands,
and steps that waited there for a run find it. Spans and events that are there stay, but for
one that had not found its run and has found it in the source. Of two roll-ups the one that
counts more stands, because counts only ever grow, with the parent that either names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Dialect, bindparam, func, literal_column, update

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.model import CommitLink
from otel_agent_telemetry.storage.batch import WriteBatch, write_batch
from otel_agent_telemetry.storage.copied_rows import COMMITS, EVENTS, ROLLUPS, RUNS, SPANS, CopiedTable, found_in
from otel_agent_telemetry.storage.rollups import loaded_usage
from otel_agent_telemetry.storage.rows import RUN_ID, Row, merged, record_of, row_of, with_commit
from otel_agent_telemetry.storage.run_statements import Statement, compiled, insert_into
from otel_agent_telemetry.storage.runs import latest_commits, link_commits
from otel_agent_telemetry.storage.steps import NOBODY

_COMPARED: Final = {
    "commits": ("associated_at", "commit_source", "commit_author", "commit_timestamp"),
    "run_spans": ("event_id",),
    "run_events": ("event_id",),
    "run_rollups": ("usage_json", "parent_run_id"),
}
"""Of a row that a database has, what is compared with the source's; of runs it is their whole state."""


def write_copied(connection: Connection, copied: CopiedTable, rows: Sequence[Row]) -> int:
    """Write a batch within the connection's transaction; how many of its rows changed anything."""
    if copied is RUNS:
        written = write_batch(connection, WriteBatch([record_of(row[: len(COLUMNS)]) for row in rows]))
        return len(rows) - written.count("duplicate")
    lacking = lacking_rows(connection, copied, rows)
    if copied is COMMITS:
        link_commits(connection, [CommitLink(**copied.values_of(row)) for row in lacking])
    else:
        names = tuple(name for name in copied.columns if name != "id")
        plain = [row[: len(names)] for row in lacking]
        plain = _grown_rollups(connection, plain) if copied is ROLLUPS else plain
        _insert(copied, connection.dialect).execute(connection, names, plain)
        if copied in (SPANS, EVENTS):
            _place(connection, copied, lacking)
    return len(lacking)


def lacking_rows(connection: Connection, copied: CopiedTable, rows: Sequence[Row]) -> list[Row]:
    """Those of the rows that a database does not have, or has in an earlier state."""
    if copied is RUNS:
        return _lacking_runs(connection, rows)
    compared = _COMPARED.get(copied.table.name, ())
    found = found_in(connection, copied, rows, *compared)
    return [row for row in rows if _is_lacking(copied, copied.values_of(row), found.get(copied.identity_of(row)))]


def _is_lacking(copied: CopiedTable, values: dict[str, Any], there: tuple[Any, ...] | None) -> bool:
    if there is None:
        return True
    if copied is COMMITS:
        told = [values[name] or "" for name in _COMPARED[copied.table.name]]
        return told > [value or "" for value in there]
    if copied is ROLLUPS:
        usage_json, parent_run_id = there
        return _weight(values["usage_json"]) > _weight(usage_json) or bool(
            values["parent_run_id"] and not parent_run_id
        )
    return bool(there[0] == NOBODY and values["event_id"] != NOBODY)


def _lacking_runs(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """A run is there when its state would add nothing, with the commit that the database knows of it."""
    found = found_in(connection, RUNS, rows, *COLUMNS)
    states = [row_of(record_of(row[: len(COLUMNS)])) for row in rows]
    shown = latest_commits(connection, {state[RUN_ID] for state in states})
    lacking = []
    for row, state in zip(rows, states, strict=True):
        there = found.get(RUNS.identity_of(row))
        if there is None or merged(there, with_commit(state, shown.get(state[RUN_ID]))) is not there:
            lacking.append(row)
    return lacking


def _weight(usage_json: str) -> int:
    """All counts of a roll-up, added up."""
    usages = loaded_usage(usage_json).values()
    return sum(count for usage in usages for count in usage.values() if isinstance(count, int))


def _grown_rollups(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """The roll-ups as they are to stand: those that are there keep their usage where that counts as much."""
    there = found_in(connection, ROLLUPS, rows, "usage_json", lock=True)
    return [
        (event_id, parent_run_id, max([*there.get((event_id,), ()), usage_json], key=_weight))
        for event_id, parent_run_id, usage_json in rows
    ]


def _place(connection: Connection, copied: CopiedTable, rows: Sequence[Row]) -> None:
    """Let rows that were there and had not found their run find it."""
    names = ("event_id", "run_id", *copied.identity)
    values = [tuple(copied.values_of(row)[name] for name in names) for row in rows]
    _find_run(copied, connection.dialect).execute(
        connection, tuple(f"of_{name}" for name in names), [one for one in values if one[0] != NOBODY]
    )


@lru_cache(maxsize=8)
def _insert(copied: CopiedTable, dialect: Dialect) -> Statement:
    names = tuple(name for name in copied.columns if name != "id")
    statement = insert_into(copied.table, dialect)
    if copied is not ROLLUPS:
        return compiled(statement.on_conflict_do_nothing(), dialect, names)
    new, old = statement.excluded, copied.table.c
    changes = {"usage_json": new.usage_json, "parent_run_id": func.coalesce(new.parent_run_id, old.parent_run_id)}
    return compiled(statement.on_conflict_do_update(index_elements=["event_id"], set_=changes), dialect, names)


@lru_cache(maxsize=8)
def _find_run(copied: CopiedTable, dialect: Dialect) -> Statement:
    columns = copied.table.c
    is_it = [columns[name] == bindparam(f"of_{name}") for name in copied.identity]
    statement = update(copied.table).where(columns.event_id == literal_column("''"), *is_it)
    changes: dict[str, Any] = {name: bindparam(f"of_{name}") for name in ("event_id", "run_id")}
    return compiled(statement.values(changes), dialect, ())
