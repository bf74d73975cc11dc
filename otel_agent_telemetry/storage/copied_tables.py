"""The tables that `copy_db` copies: reading their rows in batches, comparing and writing a batch of them.

A batch is at most 1000 rows or about 8 MiB of text, in the order of the table's key, read in
a transaction of its own: a long copy holds no lock on its source, and memory stays flat.

What the target has deleted is not copied (`copied_marks`). Writing is harmless to repeat. Runs
and commits are written as every run and commit is, so a later state in the target wins, and
steps that waited there for a run find it. Spans and events that are stored stay, except one that
had no run yet and has one in the source. Of two roll-ups the one that counts more wins, because
counts only ever grow, with the parent that either names. Keys of runs and names of agents'
services are copied too, so that what arrives later joins its run as it would have in the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Select,
    Table,
    bindparam,
    func,
    literal_column,
    select,
    tuple_,
    update,
)

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.model import CommitLink
from otel_agent_telemetry.storage.copied_marks import parts_to_copy, records_to_copy, runs_to_copy
from otel_agent_telemetry.storage.engine import reading
from otel_agent_telemetry.storage.rollups import refresh_sums
from otel_agent_telemetry.storage.rows import RUN_ID, UNCHANGED, Row, merged, record_of, row_of, with_commit
from otel_agent_telemetry.storage.runs import latest_commits, link_commits
from otel_agent_telemetry.storage.session_metrics import FIGURE_KEY, SessionFigure, write_figures
from otel_agent_telemetry.storage.statements import (
    Statement,
    compile_statement,
    insert_into,
    key_lookup,
    rows_of_keys,
)
from otel_agent_telemetry.storage.steps import NO_RUN, loaded_usage
from otel_agent_telemetry.storage.store import WriteBatch, write_batch
from otel_agent_telemetry.storage.tables import (
    HAS_LINE,
    HAS_NO_LINE,
    agent_runs,
    commits,
    run_events,
    run_keys,
    run_rollups,
    run_services,
    run_spans,
    session_metrics,
)
from otel_agent_telemetry.storage.turn_tables import turn_records, turns
from otel_agent_telemetry.storage.turns import sum_turns

# A batch ends at so many rows or so much text, whichever comes first: it is held in memory, and rows with
# payloads of megabytes are as common as rows of a hundred bytes.
_MAX_ROWS: Final = 1000
_MAX_TEXT: Final = 8 << 20
_ROWS_AT_A_TIME: Final = 50


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """A table, the key that orders its batches, and the columns that identify a row in any database.

    `only`: which of its rows these are, called `part`; all of them by default.
    """

    table: Table
    key: tuple[str, ...]
    identity: tuple[str, ...]
    only: ColumnElement[bool] | None = None
    part: str = ""

    @property
    def name(self) -> str:
        """Return what a report calls the rows."""
        return f"{self.table.name} ({self.part})" if self.part else self.table.name

    @property
    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """Return what holds for the rows, for a WHERE."""
        return () if self.only is None else (self.only,)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of a row's values; its number, which means nothing in another database, comes last."""
        return _columns_of(self.table)

    def values_of(self, row: Row) -> dict[str, Any]:
        """Return column → value, without the number."""
        return {name: value for name, value in zip(self.columns, row, strict=True) if name != "id"}

    def identity_of(self, row: Row) -> Row:
        """Return the values that identify the row in any database."""
        return tuple(row[index] for index in _indexes_of(self.table, self.identity))


@lru_cache(maxsize=16)
def _columns_of(table: Table) -> tuple[str, ...]:
    """Return the columns to copy, without what the target makes itself.

    `id` is last, because an insert leaves it out: the target numbers its rows itself.
    """
    names = tuple(column.name for column in table.c if column.name != "id" and column is not run_rollups.c.metrics_json)
    return (*names, "id") if "id" in table.c else names


@lru_cache(maxsize=16)
def _indexes_of(table: Table, names: tuple[str, ...]) -> tuple[int, ...]:
    """Return where these columns stand in a copied row."""
    return tuple(map(_columns_of(table).index, names))


COMMITS: Final = CopiedTable(commits, ("commit_hash", "run_id"), ("commit_hash", "run_id"))
RUNS: Final = CopiedTable(agent_runs, ("id",), ("event_id",))
SPANS: Final = CopiedTable(run_spans, ("id",), ("trace_id", "span_id", "start_ns"))
EVENTS: Final = CopiedTable(run_events, ("id",), ("trace_id", "span_id", "span_start_ns", "seq"), HAS_NO_LINE)
EVENT_LINES: Final = CopiedTable(run_events, ("id",), ("writer", "writer_seq"), HAS_LINE, "lines")
ROLLUPS: Final = CopiedTable(run_rollups, ("event_id",), ("event_id",))
KEYS: Final = CopiedTable(run_keys, ("run_key",), ("run_key",))
SERVICES: Final = CopiedTable(run_services, ("service_name",), ("service_name",))
TURNS: Final = CopiedTable(turns, ("turn_id",), ("turn_id",))
TURN_RECORDS: Final = CopiedTable(turn_records, ("id",), ("identity",))
FIGURES: Final = CopiedTable(session_metrics, FIGURE_KEY, FIGURE_KEY)
COPIED: Final = (COMMITS, RUNS, SPANS, EVENTS, EVENT_LINES, ROLLUPS, KEYS, SERVICES, TURNS, TURN_RECORDS, FIGURES)
"""In the order of copying: commits first, so that a run shows its commit as soon as it is there."""


_COMPARED: Final = {
    "commits": ("associated_at", "commit_source", "commit_author", "commit_timestamp"),
    "run_spans": ("event_id",),
    "run_events": ("event_id",),
    "run_rollups": ("usage_json", "parent_run_id"),
    "session_metrics": ("time",),
}
"""Table → the columns of a stored row that are compared with the source's; of runs it is their whole state."""


_TIMES: Final = {"run_spans": "start_time", "run_events": "timestamp"}
"""Table → the column that says when a row's thing happened."""


def batches(engine: Engine, copied: CopiedTable) -> Iterator[list[Row]]:
    """Yield all rows of the table, as committed when each batch is read. Raises StorageError."""
    key_of = itemgetter(*map(copied.columns.index, copied.key))
    last: Any = None
    while rows := _next_batch(engine, copied, last):
        yield rows
        last = key_of(rows[-1])


def _next_batch(engine: Engine, copied: CopiedTable, last: Any) -> list[Row]:
    """Return the rows after the key `last`, in the order of the key; none at the end.

    Each batch is a short read of its own, so that a long copy holds no snapshot of the source.
    """
    rows: list[Row] = []
    size = 0
    with (
        reading(engine, "copying from") as connection,
        connection.execute(_rows_after(copied, last), execution_options={"stream_results": True}) as result,
    ):
        for chunk in result.partitions(_ROWS_AT_A_TIME):
            rows += map(tuple, chunk)
            size += sum(len(value) for row in chunk for value in row if isinstance(value, str))
            if size >= _MAX_TEXT:  # texts may be megabytes each
                break
    return rows


def _rows_after(copied: CopiedTable, last: Any) -> Select[Any]:
    """Return the statement that reads the rows after a key; an offset would read all rows before it again."""
    columns = copied.table.c
    key = [columns[name] for name in copied.key]
    selected: Select[Any] = select(*(columns[name] for name in copied.columns)).where(*copied.conditions)
    selected = selected.order_by(*key).limit(_MAX_ROWS)
    if last is None:
        return selected
    return selected.where(tuple_(*key) > last if len(key) > 1 else key[0] > last)


def write_rows_of(connection: Connection, copied: CopiedTable, rows: Sequence[Row]) -> int:
    """Write a batch within the connection's transaction; return how many of its rows changed anything."""
    if copied is RUNS:
        written = write_batch(connection, WriteBatch([record_of(row[: len(COLUMNS)]) for row in rows]))
        return len(rows) - sum(map(written.count, UNCHANGED))
    missing = missing_rows(connection, copied, rows)
    if copied is COMMITS:  # by the usual way, so that the run shows the commit
        link_commits(connection, [CommitLink(**copied.values_of(row)) for row in missing])
    elif copied is FIGURES:  # a later value of a sum replaces an earlier one
        write_figures(connection, [SessionFigure(**copied.values_of(row)) for row in missing])
    else:
        names = tuple(name for name in copied.columns if name != "id")
        new = [row[: len(names)] for row in missing]  # without its number
        new = _merged_rollups(connection, new) if copied is ROLLUPS else new
        _insert_statement(copied, connection.dialect).execute(connection, names, new)
        if copied is ROLLUPS:
            refresh_sums(connection, [row[0] for row in new])
        if copied in (SPANS, EVENTS, EVENT_LINES):
            _set_run(connection, copied, missing)
        if copied is TURN_RECORDS:
            sum_turns(connection, {copied.values_of(row)["turn_id"] for row in missing})
    return len(missing)


def missing_rows(connection: Connection, copied: CopiedTable, rows: Sequence[Row]) -> list[Row]:
    """Return those of the rows that a database does not have, or has in an earlier state."""
    if copied is RUNS:
        return _missing_runs(connection, runs_to_copy(connection, rows))
    if "event_id" in copied.columns:
        event_id_at, time = copied.columns.index("event_id"), _TIMES.get(copied.table.name)
        time_at = None if time is None else copied.columns.index(time)
        rows = parts_to_copy(connection, rows, event_id_at=event_id_at, time_at=time_at)
    if copied is TURN_RECORDS:
        rows = records_to_copy(connection, rows, turn_id_at=copied.columns.index("turn_id"))
    compared = _COMPARED.get(copied.table.name, ())
    found = stored_in(connection, copied, rows, *compared)
    return [row for row in rows if _is_missing(copied, copied.values_of(row), found.get(copied.identity_of(row)))]


def _is_missing(copied: CopiedTable, values: dict[str, Any], stored: tuple[Any, ...] | None) -> bool:
    """Return whether the target lacks a row, or what is stored there lacks something that the row has."""
    if stored is None:
        return True
    # Nothing of them changes, or it is worked out anew (`sum_turns`).
    if copied in (KEYS, SERVICES, TURNS, TURN_RECORDS):
        return False
    if copied is COMMITS:
        given = [values[name] or "" for name in _COMPARED[copied.table.name]]
        return given > [value or "" for value in stored]
    if copied is FIGURES:
        return bool(values["time"] > stored[0])
    if copied is ROLLUPS:
        usage_json, parent_run_id = stored
        has_new_parent = bool(values["parent_run_id"] and not parent_run_id)
        return has_new_parent or _total(values["usage_json"]) > _total(usage_json)
    return bool(stored[0] == NO_RUN and values["event_id"] != NO_RUN)


def _missing_runs(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """Return those of the runs whose state would add something, shown with the commit that the database has."""
    found = stored_in(connection, RUNS, rows, *COLUMNS)
    states = [row_of(record_of(row[: len(COLUMNS)])) for row in rows]
    commits_of = latest_commits(connection, {state[RUN_ID] for state in states})
    missing = []
    for row, state in zip(rows, states, strict=True):
        stored = found.get(RUNS.identity_of(row))
        if stored is None or merged(stored, with_commit(state, commits_of.get(state[RUN_ID]))) is not stored:
            missing.append(row)
    return missing


def _total(usage_json: str) -> int:
    """Return the sum of all counts of a roll-up; its other members say what its agent is."""
    members = loaded_usage(usage_json)
    usages = (members.get(name) or {} for name in ("own", "steps", "records"))
    return sum(count for usage in usages for count in usage.values() if isinstance(count, int))


def _merged_rollups(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """Return the roll-ups to write: a stored one keeps its usage where that counts as much."""
    stored = stored_in(connection, ROLLUPS, rows, "usage_json", lock=True)
    return [
        (event_id, parent_run_id, max([*stored.get((event_id,), ()), usage_json], key=_total))
        for event_id, parent_run_id, usage_json in rows
    ]


def _set_run(connection: Connection, copied: CopiedTable, rows: Sequence[Row]) -> None:
    """Give stored rows that have no run yet the run that they have in the source."""
    names = ("event_id", "run_id", *copied.identity)
    values = [tuple(copied.values_of(row)[name] for name in names) for row in rows]
    _update_run(copied, connection.dialect).execute(
        connection, tuple(f"of_{name}" for name in names), [one for one in values if one[0] != NO_RUN]
    )


def stored_in(
    connection: Connection, copied: CopiedTable, rows: Sequence[Row], *names: str, lock: bool = False
) -> dict[Row, tuple[Any, ...]]:
    """Identity → the values of some columns, for those of the rows that a database has.

    With `lock` they stay as they are until the transaction ends.
    """
    columns = copied.table.c
    identity = [columns[name] for name in copied.identity]
    selected = select(*identity, *(columns[name] for name in names))
    # Without the lock another writer could add to a roll-up between this read and the write.
    selected = selected.with_for_update() if lock else selected
    lookup = key_lookup(connection.dialect, selected, identity, *copied.conditions)
    found = rows_of_keys(connection, lookup, map(copied.identity_of, rows))
    return {tuple(row[: len(identity)]): tuple(row[len(identity) :]) for row in found}


@lru_cache(maxsize=16)
def _insert_statement(copied: CopiedTable, dialect: Dialect) -> Statement:
    """Return the statement that adds rows and keeps those that are stored; a rollup replaces the stored one."""
    names = tuple(name for name in copied.columns if name != "id")
    statement = insert_into(copied.table, dialect)
    if copied is not ROLLUPS:
        return compile_statement(statement.on_conflict_do_nothing(), dialect, names)
    new, old = statement.excluded, copied.table.c
    changes = {"usage_json": new.usage_json, "parent_run_id": func.coalesce(new.parent_run_id, old.parent_run_id)}
    return compile_statement(statement.on_conflict_do_update(index_elements=["event_id"], set_=changes), dialect, names)


@lru_cache(maxsize=16)
def _update_run(copied: CopiedTable, dialect: Dialect) -> Statement:
    """Return the statement that assigns a stored row without a run to the run that the source knows."""
    columns = copied.table.c
    matches = [*copied.conditions, *(columns[name] == bindparam(f"of_{name}") for name in copied.identity)]
    statement = update(copied.table).where(columns.event_id == literal_column("''"), *matches)
    changes: dict[str, Any] = {name: bindparam(f"of_{name}") for name in ("event_id", "run_id")}
    return compile_statement(statement.values(changes), dialect, ())
