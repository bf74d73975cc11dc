"""One database copied into another, of either kind, and the copy compared with its source.

Rows go in the order of their keys, a batch a transaction, through writes that are harmless to
repeat: a copy that was killed is begun again, and passes over what is there without writing.
So no note is kept of how far it came. The source is opened for reading alone, after what a
writer of it left that died in the middle of a commit has been undone.

What `copy_db` copies: the tables, their rows in bounded batches, and which of them a target has.

A batch is at most 1000 rows or about 8 MiB of text, in the order of the table's key, read in
a transaction of its own: a long copy holds no lock on its source, and memory stays flat.

How `copy_db` writes a batch of rows, and how it sees that a database has them. Repeating either is harmless.

Runs and commits go the way of every run and commit, so a later state in the target stands,
and steps that waited there for a run find it. Spans and events that are there stay, but for
one that had not found its run and has found it in the source. Of two roll-ups the one that
counts more stands, because counts only ever grow, with the parent that either names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Dialect,
    Engine,
    Select,
    Table,
    bindparam,
    func,
    literal_column,
    select,
    text,
    tuple_,
    update,
)

from otel_agent_telemetry.bisection import Bisection
from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.model import CommitLink
from otel_agent_telemetry.storage.batch import WriteBatch, write_batch
from otel_agent_telemetry.storage.counts import check_counts
from otel_agent_telemetry.storage.database_file import only_writer, undo_torn_commit
from otel_agent_telemetry.storage.engine import database_name, make_read_engine, reading, sqlite_path
from otel_agent_telemetry.storage.key_lookup import key_lookup, look_up
from otel_agent_telemetry.storage.rollups import loaded_usage
from otel_agent_telemetry.storage.rows import RUN_ID, Row, merged, record_of, row_of, with_commit
from otel_agent_telemetry.storage.run_statements import Statement, compiled, insert_into
from otel_agent_telemetry.storage.runs import latest_commits, link_commits
from otel_agent_telemetry.storage.schema import database_state
from otel_agent_telemetry.storage.steps import NOBODY
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.tables import agent_runs, commits, run_events, run_rollups, run_spans
from otel_agent_telemetry.storage.writer_lock import real_path

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


_MAX_ROWS: Final = 1000
_MAX_TEXT: Final = 8 << 20
_ROWS_AT_A_TIME: Final = 50


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """A table, the key by which its batches go on, and the columns that make a row the same elsewhere."""

    table: Table
    key: tuple[str, ...]
    identity: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of a row's values; a row's number, which is its own database's, comes last."""
        return _columns_of(self.table)

    def values_of(self, row: Row) -> dict[str, Any]:
        """Column → value, without the number."""
        return {name: value for name, value in zip(self.columns, row, strict=True) if name != "id"}

    def identity_of(self, row: Row) -> Row:
        """What the row is known by in any database."""
        return tuple(row[at] for at in _places_of(self.table, self.identity))


@lru_cache(maxsize=8)
def _columns_of(table: Table) -> tuple[str, ...]:
    names = tuple(column.name for column in table.c if column.name != "id")
    return (*names, "id") if "id" in table.c else names


@lru_cache(maxsize=8)
def _places_of(table: Table, names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(map(_columns_of(table).index, names))


COMMITS: Final = CopiedTable(commits, ("commit_hash", "run_id"), ("commit_hash", "run_id"))
RUNS: Final = CopiedTable(agent_runs, ("id",), ("event_id",))
SPANS: Final = CopiedTable(run_spans, ("id",), ("trace_id", "span_id"))
EVENTS: Final = CopiedTable(run_events, ("id",), ("trace_id", "span_id", "seq"))
ROLLUPS: Final = CopiedTable(run_rollups, ("event_id",), ("event_id",))
COPIED: Final = (COMMITS, RUNS, SPANS, EVENTS, ROLLUPS)
"""In the order of copying: commits first, so that a run shows its commit as soon as it is there."""


def count_rows(connection: Connection, copied: CopiedTable) -> int:
    """All rows of the table."""
    return int(connection.execute(select(func.count()).select_from(copied.table)).scalar_one())


def batches(engine: Engine, copied: CopiedTable) -> Iterator[list[Row]]:
    """All rows of the table, of what is committed when each batch is read. Raises StorageError."""
    key_of = itemgetter(*map(copied.columns.index, copied.key))
    last: Any = None
    while rows := _next_batch(engine, copied, last):
        yield rows
        last = key_of(rows[-1])


def _next_batch(engine: Engine, copied: CopiedTable, last: Any) -> list[Row]:
    rows: list[Row] = []
    size = 0
    with (
        reading(engine, "copying from") as connection,
        connection.execute(_rows_after(copied, last), execution_options={"stream_results": True}) as found,
    ):
        for part in found.partitions(_ROWS_AT_A_TIME):
            rows += map(tuple, part)
            size += sum(len(value) for row in part for value in row if isinstance(value, str))
            if size >= _MAX_TEXT:
                break
    return rows


def _rows_after(copied: CopiedTable, last: Any) -> Select[Any]:
    columns = copied.table.c
    key = [columns[name] for name in copied.key]
    chosen: Select[Any] = select(*(columns[name] for name in copied.columns)).order_by(*key).limit(_MAX_ROWS)
    if last is None:
        return chosen
    return chosen.where(tuple_(*key) > last if len(key) > 1 else key[0] > last)


def found_in(
    connection: Connection, copied: CopiedTable, rows: Sequence[Row], *names: str, lock: bool = False
) -> dict[Row, tuple[Any, ...]]:
    """Identity → the values of some columns, for those of the rows that a database has.

    With `lock` they stay as they are until the transaction ends.
    """
    columns = copied.table.c
    identity = [columns[name] for name in copied.identity]
    chosen = select(*identity, *(columns[name] for name in names))
    chosen = chosen.with_for_update() if lock else chosen
    lookup = key_lookup(connection.dialect, chosen, identity)
    found = look_up(connection, lookup, map(copied.identity_of, rows))
    return {tuple(row[: len(identity)]): tuple(row[len(identity) :]) for row in found}


_MAX_REASONS: Final = 10

Progress = Callable[[int, int], None]
"""Called with the rows copied or compared so far, and all of them."""


@dataclass(slots=True)
class CopiedRows:
    """What became of one table. `lacking` rows are not in the target, or in an earlier state, after all."""

    table: str
    rows: int = 0
    written: int = 0
    refused: int = 0
    lacking: int = 0


@dataclass(slots=True)
class CopyReport:
    """What a copy did. `reasons` are those of the first few refused rows."""

    source: str
    target: str
    tables: list[CopiedRows] = field(default_factory=list)
    counts_differ: int = 0
    """Kept counts of the target that are not those of its runs."""
    reasons: list[str] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        """Whether every row of the source is in the target, as late or later, and the counts are right."""
        return not self.counts_differ and not any(table.lacking for table in self.tables)


def copy_database(
    source: TelemetryConfig, target: TelemetryConfig, *, on_progress: Progress = lambda _done, _total: None
) -> CopyReport:
    """Copy all runs, commits, events, spans and roll-ups, then compare; the target is made or upgraded first.

    Raises ConfigurationError when both are one database, SchemaError when the source is not
    of this version's schema, StoreUnavailableError when one of them cannot be used, or
    another process writes the target. What was copied before that stays.
    """
    engine, store = make_read_engine(source), Store(target)
    try:
        _refuse_the_same(engine, target)
        if (path := sqlite_path(engine)) is not None:
            undo_torn_commit(source, real_path(path))
        _check_source(engine)
        with nullcontext() if store.path is None else only_writer(store.path, doing="copying to"):
            store.open()
            return _Copy(engine, store, on_progress).run()
    finally:
        engine.dispose()
        store.close()


def _check_source(engine: Engine) -> None:
    with reading(engine, "copying from") as connection:
        state = database_state(connection)
    if state == "current":
        return
    what = "it holds no runs" if state == "empty" else "its schema is older than this version"
    raise SchemaError(
        f"copying from {database_name(engine)}: {what}",
        hint="" if state == "empty" else "`agent-telemetry init-db` upgrades it, after a backup.",
    )


def _refuse_the_same(engine: Engine, target: TelemetryConfig) -> None:
    other = make_read_engine(target)
    try:
        if _identity(engine) == _identity(other):
            raise ConfigurationError(
                f"copying from {database_name(engine)} to {database_name(other)}: they are one database"
            )
    finally:
        other.dispose()


def _identity(engine: Engine) -> Any:
    """What two names of one database have in common."""
    path = sqlite_path(engine)
    if path is not None:
        found = path.resolve()
        return (found.stat().st_dev, found.stat().st_ino) if found.exists() else found
    if engine.dialect.name == "sqlite":
        raise ConfigurationError("copying: a database in memory would be gone at once")
    with reading(engine, "opening") as connection:
        where = text("SELECT current_database(), current_schema(), pg_postmaster_start_time()")
        return tuple(connection.execute(where).one())


class _Copy:
    """One call of `copy_database`, both ends open."""

    def __init__(self, source: Engine, store: Store, on_progress: Progress) -> None:
        self._source = source
        self._store = store
        self._on_progress = on_progress
        self._report = CopyReport(database_name(source), store.name)
        self._done = self._total = 0

    def run(self) -> CopyReport:
        with reading(self._source, "copying from") as connection:
            self._total = 2 * sum(count_rows(connection, copied) for copied in COPIED)
        for copied in COPIED:
            self._copy(copied)
        for copied, table in zip(COPIED, self._report.tables, strict=True):
            self._compare(copied, table)
        with self._store.reading() as connection:
            self._report.counts_differ = len(check_counts(connection))
        return self._report

    def _copy(self, copied: CopiedTable) -> None:
        table = CopiedRows(copied.table.name)
        self._report.tables.append(table)
        for rows in batches(self._source, copied):
            table.written += self._write(copied, rows, table)
            table.rows += len(rows)
            self._advance(len(rows))

    def _write(self, copied: CopiedTable, rows: Sequence[Row], table: CopiedRows) -> int:
        """Rows that changed anything; a row that the target will never take does not stop its neighbours."""
        changed = 0
        bisection = Bisection(rows)
        for part in bisection:
            try:
                changed += self._store.transact(partial(write_copied, copied=copied, rows=part))
            except (StoreUnavailableError, SchemaError):
                raise
            except StorageError as problem:
                bisection.refuse(str(problem))
        table.refused += len(bisection.refused)
        room = _MAX_REASONS - len(self._report.reasons)
        self._report.reasons += [f"{copied.table.name}: {reason}" for _, reason in bisection.refused[:room]]
        return changed

    def _compare(self, copied: CopiedTable, table: CopiedRows) -> None:
        for rows in batches(self._source, copied):
            with self._store.reading() as connection:
                table.lacking += len(lacking_rows(connection, copied, rows))
            self._advance(len(rows))

    def _advance(self, rows: int) -> None:
        self._done += rows
        self._on_progress(self._done, max(self._total, self._done))
