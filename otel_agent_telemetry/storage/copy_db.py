"""Copy one database into another, of either kind, and compare the copy with its source.

Rows are copied in the order of their keys, a batch a transaction, by writes that are harmless
to repeat: a copy that was killed is started again, and passes over what is stored already
without writing. So its progress is kept nowhere. The source is only read, after a commit that
a killed writer left half done has been rolled back.

What is copied, and how a batch is written, is in `copied_tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import Engine, text

from otel_agent_telemetry.bisection import Bisection
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.storage.copied_marks import copy_marks
from otel_agent_telemetry.storage.copied_tables import COPIED, CopiedTable, batches, missing_rows, write_rows_of
from otel_agent_telemetry.storage.counts import check_counts
from otel_agent_telemetry.storage.database_file import only_writer, roll_back_torn_commit
from otel_agent_telemetry.storage.engine import database_name, make_read_engine, reading, sqlite_path
from otel_agent_telemetry.storage.rows import Row
from otel_agent_telemetry.storage.schema import database_state
from otel_agent_telemetry.storage.statements import count_rows
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.trusted_files import followed

_MAX_REASONS: Final = 10

Progress = Callable[[int, int], None]
"""Called with the rows copied or compared so far, and all of them."""


@dataclass(slots=True)
class CopiedRows:
    """What became of one table's rows. `lacking` ones are not in the target afterwards, or in an earlier state."""

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
    """How many stored counts of the target differ from its runs."""
    deleted: int = 0
    """How many runs of the target were deleted because the source has deleted them."""
    reasons: list[str] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        """Return whether the target has all of the source but deleted runs, as late or later, and right counts."""
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
            # SQLite keeps the journal beside the real file, not beside a link to it.
            roll_back_torn_commit(source, followed(path))
        _check_source(engine)
        with nullcontext() if store.path is None else only_writer(store.path, doing="copying to"):
            store.open()
            return _Copy(engine, store, on_progress).run()
    finally:
        engine.dispose()
        store.close()


def _check_source(engine: Engine) -> None:
    """Raise SchemaError unless the source has the tables of this version. Changes nothing."""
    with reading(engine, "copying from") as connection:
        state = database_state(connection)
    if state == "current":
        return
    reason = "it holds no runs" if state == "empty" else "its schema is older than this version"
    raise SchemaError(
        f"copying from {database_name(engine)}: {reason}",
        hint="" if state == "empty" else "`agent-telemetry init-db` upgrades it, after a backup.",
    )


def _refuse_the_same(engine: Engine, target: TelemetryConfig) -> None:
    """Raise ConfigurationError when source and target are one database."""
    other = make_read_engine(target)
    try:
        if _identity(engine) == _identity(other):
            raise ConfigurationError(
                f"copying from {database_name(engine)} to {database_name(other)}: they are one database"
            )
    finally:
        other.dispose()


def _identity(engine: Engine) -> Any:
    """Return what two names of one database have in common."""
    path = sqlite_path(engine)
    if path is not None:
        file = path.resolve()
        # Device and inode: a link, and another spelling of the path, are the same file.
        return (file.stat().st_dev, file.stat().st_ino) if file.exists() else file
    if engine.dialect.name == "sqlite":
        raise ConfigurationError("copying: a database in memory would be lost at once")
    with reading(engine, "opening") as connection:
        query = text("SELECT current_database(), current_schema(), pg_postmaster_start_time()")
        return tuple(connection.execute(query).one())


class _Copy:
    """One call of `copy_database`, both ends open."""

    def __init__(self, source: Engine, store: Store, on_progress: Progress) -> None:
        self._source = source
        self._store = store
        self._on_progress = on_progress
        self._report = CopyReport(database_name(source), store.name)
        self._done = self._total = 0

    def run(self) -> CopyReport:
        """Copy every table, compare every row, and return what was found."""
        with reading(self._source, "copying from") as connection:
            # Every row is read twice: copied, then compared.
            self._total = 2 * sum(count_rows(connection, copied.table, *copied.conditions) for copied in COPIED)
        # First: what either side has deleted must not be copied.
        self._report.deleted = copy_marks(self._source, self._store)
        for copied in COPIED:
            self._copy(copied)
        for copied, table in zip(COPIED, self._report.tables, strict=True):
            self._compare(copied, table)
        with self._store.reading() as connection:
            self._report.counts_differ = len(check_counts(connection))
        return self._report

    def _copy(self, copied: CopiedTable) -> None:
        """Copy a table in batches and add its figures to the report."""
        table = CopiedRows(copied.name)
        self._report.tables.append(table)
        for rows in batches(self._source, copied):
            table.written += self._write(copied, rows, table)
            table.rows += len(rows)
            self._advance(len(rows))

    def _write(self, copied: CopiedTable, rows: Sequence[Row], table: CopiedRows) -> int:
        """Write rows, except those that the target refuses; return how many changed anything."""
        changed = 0
        bisection = Bisection(rows)
        for part in bisection:
            try:
                changed += self._store.transact(partial(write_rows_of, copied=copied, rows=part))
            except (StoreUnavailableError, SchemaError):  # these are the database's, not a row's: halves would fail too
                raise
            except StorageError as problem:
                bisection.refuse(str(problem))
        table.refused += len(bisection.refused)
        room = _MAX_REASONS - len(self._report.reasons)
        self._report.reasons += [f"{copied.name}: {reason}" for _, reason in bisection.refused[:room]]
        return changed

    def _compare(self, copied: CopiedTable, table: CopiedRows) -> None:
        """Count the rows of the source that the target still lacks."""
        for rows in batches(self._source, copied):
            with self._store.reading() as connection:
                table.lacking += len(missing_rows(connection, copied, rows))
            self._advance(len(rows))

    def _advance(self, rows: int) -> None:
        """Report the progress of the whole copy."""
        self._done += rows
        # Rows that were added to the source meanwhile are copied too: never more than all.
        self._on_progress(self._done, max(self._total, self._done))
