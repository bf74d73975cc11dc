"""Check what a backup holds, and put a backup in the place of a SQLite database.

A check reads every page and changes nothing. For a restore the backup is copied beside the
database and verified; what the database holds becomes a backup itself; then the copy is
renamed over it, so that at every instant one of the two is there. Meanwhile SQLite's own lock
keeps every writer out. A process that still has the old file open cannot write to it
afterwards (SQLite sees that it was moved), and opens the new one.

What is restored is another database for those that deliver to it, with an id of its own: their
cursors are ahead of a backup, and by the old id nothing that came since would be sent again.

Making backups is `database_backup`'s.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, table

from otel_agent_telemetry.append import sync_dir
from otel_agent_telemetry.clock import Clock, SystemClock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deletion import Marks, read_marks
from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StoreUnavailableError
from otel_agent_telemetry.storage.counts import check_counts
from otel_agent_telemetry.storage.database_backup import (
    backup_database,
    free_backup_name,
    remove_partials,
    verified_copy,
)
from otel_agent_telemetry.storage.database_file import (
    connect_file,
    only_writer,
    reading_file,
    roll_back_torn_commit,
)
from otel_agent_telemetry.storage.database_place import SIDECARS, sidecar
from otel_agent_telemetry.storage.deletions import apply_marks
from otel_agent_telemetry.storage.engine import make_engine, translated
from otel_agent_telemetry.storage.marks import read_marks as read_stored_marks
from otel_agent_telemetry.storage.row_retention import delete_old
from otel_agent_telemetry.storage.schema import VERSION_TABLE, SchemaReport, database_state, ensure_schema
from otel_agent_telemetry.storage.statements import count_rows
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.store_facts import STORE_ID
from otel_agent_telemetry.trusted_files import make_private_dir, open_file, open_to_read

_DAMAGED_HINT: Final = "Keep it, and take another backup, or rebuild the runs with `agent-telemetry replay`."


class DamagedError(SchemaError):
    """A database of this package with damaged pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseContents:
    """What an undamaged database of this package holds. `tables` are rows by table, times those of `created_at`."""

    path: Path
    bytes: int
    revision: str
    tables: dict[str, int]
    runs: int
    oldest: str | None
    newest: str | None
    newest_run_id: str | None
    counts_agree: bool
    """Whether the stored counts (`counts`) equal those of the runs."""


def read_contents(config: TelemetryConfig, path: Path) -> DatabaseContents:
    """Return the contents of a file, read from its first page to its last.

    Raises SchemaError when it is damaged, empty, another application's, or newer than this
    code, and StoreUnavailableError when it cannot be read now.
    """
    with reading_file(config, path, "checking") as connection:
        refuse_damaged(connection, path)
        state = database_state(connection)
        if state == "empty":
            raise SchemaError(f"checking {path}: it holds no tables", hint="It is not a backup of this package.")
        revision = "7" if state == "version_7" else _revision(connection)
        names = sorted(inspect(connection).get_table_names())
        tables = {name: count_rows(connection, table(name)) for name in names}
        ends = connection.exec_driver_sql("SELECT min(created_at), max(created_at) FROM agent_runs").one()
        newest = connection.exec_driver_sql("SELECT * FROM agent_runs ORDER BY created_at DESC LIMIT 1").mappings()
        return DatabaseContents(
            path=path,
            bytes=path.stat().st_size,
            revision=revision,
            tables=tables,
            runs=tables["agent_runs"],
            oldest=ends[0],
            newest=ends[1],
            newest_run_id=next((str(row["run_id"]) for row in newest), None),
            counts_agree="run_counts" not in tables or not check_counts(connection),
        )


def refuse_damaged(connection: Connection, path: Path) -> None:
    """Raise DamagedError when a page, an index or a value is damaged. Reads all of the file."""
    (result,) = connection.exec_driver_sql("PRAGMA integrity_check(1)").one()
    if result != "ok":
        raise DamagedError(f"checking {path}: it is damaged: {str(result).splitlines()[0][:200]}", hint=_DAMAGED_HINT)


def _revision(connection: Connection) -> str:
    """Return the schema revision that is recorded in a database of ours."""
    return str(connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar_one())  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What a restore did. `kept` is where the replaced database is now, None when there was none."""

    contents: DatabaseContents
    kept: Path | None
    schema: SchemaReport
    deleted: int = 0
    """Runs of the backup that had been deleted since, and were deleted again."""


def restore_backup(
    config: TelemetryConfig, path: Path, backup: Path, *, force: bool = False, clock: Clock | None = None
) -> RestoreReport:
    """Put a verified copy of `backup` in the place of the configured database `path`, then upgrade it.

    Raises SchemaError for a backup that does not verify, and for a database of another
    application in that place; StoreUnavailableError while another process writes;
    ConfigurationError when `force` is needed, because runs would be lost or the present
    database cannot be read. Unless the upgrade is what failed, nothing has changed then.
    Commits, steps and events of runs that the backup has need no `force`; they are in `kept`.
    """
    if path.exists() and backup.samefile(path):
        raise ConfigurationError(f"restoring {path} from itself changes nothing", hint="Name a backup.")
    # Verified first: nothing is locked or moved for a backup that is damaged.
    contents = read_contents(config, backup)
    with only_writer(path, doing="restoring"), translated("restoring", str(path)):
        remove_partials(path.parent, path.stem)
        with verified_copy(backup, path) as fresh, _locked(config, path, force=force) as sound:
            _forget_id(config, fresh)
            marks = _marks_of(config, path)
            kept = _keep_present(config, path, fresh, sound=sound, force=force, clock=clock or SystemClock())
            for ending in SIDECARS:  # a journal of the old file would be played into the new one
                sidecar(path, ending).unlink(missing_ok=True)
            sync_dir(path.parent)  # the journal's removal is durable before the new file gets the name
            fresh.rename(path)
            sync_dir(path.parent)
        schema = _upgrade(config, clock)
        return RestoreReport(contents=contents, kept=kept, schema=schema, deleted=_delete_again(config, marks))


def _forget_id(config: TelemetryConfig, fresh: Path) -> None:
    """Take the id of the database out of a copy, so that whoever opens it first makes another; not from version 7."""
    with closing(connect_file(config, fresh, mode="rw")) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'store_facts'").fetchone():
            with connection:
                connection.execute("DELETE FROM store_facts WHERE name = ?", (STORE_ID,))


def _marks_of(config: TelemetryConfig, path: Path) -> Marks:
    """Return the marks of deletions in the journal and, where it can be read, in the present database."""
    marks = read_marks(config.ndjson_dir)
    if path.exists():
        # A damaged database, or one of an older version, has no marks that could be read; the journal has them too.
        with suppress(SchemaError), reading_file(config, path, "checking") as connection:
            if database_state(connection) == "current":
                marks.update(read_stored_marks(connection))
    return marks


def _delete_again(config: TelemetryConfig, marks: Marks) -> int:
    """Delete the runs of the restored database that had been deleted since; return how many."""
    if not marks:
        return 0
    store = Store(config)
    try:
        deleted = store.transact(lambda connection: apply_marks(connection, marks))
        return deleted + (delete_old(store, marks.cutoff.cutoff).runs if marks.cutoff is not None else 0)
    finally:
        store.close()


def _upgrade(config: TelemetryConfig, clock: Clock | None) -> SchemaReport:
    """Bring the restored database to the schema of this version."""
    engine = make_engine(config)
    try:
        return ensure_schema(engine, config, clock=clock)
    finally:
        engine.dispose()


@contextmanager
def _locked(config: TelemetryConfig, path: Path, *, force: bool) -> Iterator[bool]:
    """Hold SQLite's write lock on the present database; False when it is damaged, True else."""
    if not path.exists():
        yield True
        return
    if not _is_sound(config, path, force=force):
        yield False
        return
    with closing(connect_file(config, path, mode="rw")) as connection:
        _leave_wal(connection, path)
        # From here to the rename nobody can commit to the file that is about to be replaced.
        connection.execute("BEGIN IMMEDIATE")
        yield True


def _is_sound(config: TelemetryConfig, path: Path, *, force: bool) -> bool:
    """Return whether the present database can be read. Raises SchemaError for another application's."""
    roll_back_torn_commit(config, path)
    try:
        with reading_file(config, path, "checking") as connection:
            database_state(connection)
            refuse_damaged(connection, path)
    except SchemaError as problem:
        if not _is_damage(problem):
            raise
        if not force:
            raise ConfigurationError(str(problem), hint="`--force` keeps a copy of it as it is.") from problem
        return False
    return True


def _is_damage(problem: SchemaError) -> bool:
    """Return whether we or SQLite found damage; otherwise the database is another application's."""
    return isinstance(problem, DamagedError) or "malformed" in str(problem.__cause__ or "")


def _leave_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Write what is in the WAL into the file; fails while another process has the database open."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        return
    (mode,) = connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    if mode == "wal":
        raise StoreUnavailableError(f"restoring {path}: the database is locked", hint="Stop what uses it first.")


def _keep_present(
    config: TelemetryConfig, path: Path, fresh: Path, *, sound: bool, force: bool, clock: Clock
) -> Path | None:
    """Keep the database that is there now as a backup, and return it; None for none. Raises ConfigurationError."""
    if not path.exists():
        return None
    if not sound:
        return _keep_damaged(path, config.backups_dir, clock)
    lost = _runs_lost(config, path, fresh)
    # Asked for here and not at the start: only under the lock is the number certain.
    if lost and not force:
        raise ConfigurationError(
            f"restoring {path}: {lost} of its runs are not in the backup, or newer than there",
            hint="`--force` replaces it all the same; what it holds is kept as a backup.",
        )
    return backup_database(path, config.backups_dir, clock)


def _runs_lost(config: TelemetryConfig, path: Path, fresh: Path) -> int:
    """Return how many runs of the present database the other lacks, or has in an earlier state.

    Only runs: commits, steps and events of runs that both have do not count, see `kept`.
    """
    with closing(connect_file(config, path, mode="ro")) as connection:
        connection.execute("ATTACH ? AS fresh", (f"{fresh.absolute().as_uri()}?mode=ro",))
        # A present database of version 7 has other columns: what both have decides whether states can be compared.
        present, other = (
            {row[1] for row in connection.execute(f"PRAGMA {of}.table_info(agent_runs)")} for of in ("main", "fresh")
        )
        if not present:
            return 0
        query = "SELECT count(*) FROM main.agent_runs"
        if {"event_id", "updated_at"} <= present & other:
            query += (
                " AS here LEFT JOIN fresh.agent_runs AS there USING (event_id)"
                " WHERE there.event_id IS NULL OR here.updated_at > there.updated_at"
            )
        return int(connection.execute(query).fetchone()[0])


def _keep_damaged(path: Path, folder: Path, clock: Clock) -> Path:
    """Copy a damaged file and its sidecars, byte by byte, to a name that no backup has; return that name.

    SQLite's own backup reads pages, and would fail at the damaged one. Raises OSError.
    """
    make_private_dir(folder)
    target = free_backup_name(folder, f"{path.stem}-damaged", clock.now_ns())
    for ending in ("", *SIDECARS):
        if sidecar(path, ending).exists():
            # O_EXCL: a file that somebody has put there meanwhile is neither followed nor overwritten.
            copy = open_file(sidecar(target, ending), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            with open_to_read(sidecar(path, ending)) as damaged, os.fdopen(copy, "wb") as stream:
                shutil.copyfileobj(damaged, stream)
    sync_dir(folder)
    return target
