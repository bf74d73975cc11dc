"""A backup taking the place of a SQLite database, so that at every instant one of the two is there.

The backup is copied beside the database and verified; what the database holds becomes a
backup itself; then the copy is renamed over it. Meanwhile SQLite's own lock keeps every
writer out. A process that still has the old file open cannot write to it afterwards
(SQLite sees that it was moved), and opens the new one.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from otel_agent_telemetry.append import PRIVATE_FILE, make_private_dir, sync_dir
from otel_agent_telemetry.clock import Clock, SystemClock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StoreUnavailableError
from otel_agent_telemetry.storage.database_backup import backup_sqlite, free_name, sweep_partials, verified_copy
from otel_agent_telemetry.storage.database_file import (
    SIDECARS,
    connect_file,
    only_writer,
    reading_file,
    sidecar,
    undo_torn_commit,
)
from otel_agent_telemetry.storage.engine import make_engine
from otel_agent_telemetry.storage.error_translation import translated
from otel_agent_telemetry.storage.file_summary import DamagedError, DatabaseContents, read_contents, refuse_damaged
from otel_agent_telemetry.storage.schema import SchemaReport, database_state, ensure_schema


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What a restore did. `kept` is where the database of before is now, None when there was none."""

    contents: DatabaseContents
    kept: Path | None
    schema: SchemaReport


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
    contents = read_contents(config, backup)
    with only_writer(path, doing="restoring"), translated("restoring", str(path)):
        sweep_partials(path.parent, path.stem)
        with verified_copy(backup, path) as fresh, _kept_out(config, path, force=force) as sound:
            kept = _keep_present(config, path, fresh, sound=sound, force=force, clock=clock or SystemClock())
            for ending in SIDECARS:  # a journal of the old file would be played into the new one
                sidecar(path, ending).unlink(missing_ok=True)
            sync_dir(path.parent)
            fresh.rename(path)
            sync_dir(path.parent)
        return RestoreReport(contents=contents, kept=kept, schema=_brought_up(config, clock))


def _brought_up(config: TelemetryConfig, clock: Clock | None) -> SchemaReport:
    engine = make_engine(config)
    try:
        return ensure_schema(engine, config, clock=clock)
    finally:
        engine.dispose()


@contextmanager
def _kept_out(config: TelemetryConfig, path: Path, *, force: bool) -> Iterator[bool]:
    """Hold SQLite's write lock on the present database; False when it is damaged, True else."""
    if not path.exists():
        yield True
        return
    if not _is_sound(config, path, force=force):
        yield False
        return
    with closing(connect_file(config, path, mode="rw")) as connection:
        _leave_wal(connection, path)
        connection.execute("BEGIN IMMEDIATE")
        yield True


def _is_sound(config: TelemetryConfig, path: Path, *, force: bool) -> bool:
    """Whether the present database can be read. Raises SchemaError for one that is not ours to replace."""
    undo_torn_commit(config, path)
    try:
        with reading_file(config, path, "looking into") as connection:
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
    """Found by us, or by SQLite on the way; else it is another application's."""
    return isinstance(problem, DamagedError) or "malformed" in str(problem.__cause__ or "")


def _leave_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Bring what is in the WAL into the file; fails while anybody else has the database open."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        return
    (mode,) = connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    if mode == "wal":
        raise StoreUnavailableError(f"restoring {path}: the database is locked", hint="Stop what uses it first.")


def _keep_present(
    config: TelemetryConfig, path: Path, fresh: Path, *, sound: bool, force: bool, clock: Clock
) -> Path | None:
    if not path.exists():
        return None
    if not sound:
        return _store_rejected(path, config.backups_dir, clock)
    lost = _runs_lost(config, path, fresh)
    if lost and not force:
        raise ConfigurationError(
            f"restoring {path}: {lost} of its runs are not in the backup, or newer than there",
            hint="`--force` replaces it all the same; what it holds is kept as a backup.",
        )
    return backup_sqlite(path, config.backups_dir, clock)


def _runs_lost(config: TelemetryConfig, path: Path, fresh: Path) -> int:
    """How many runs of the present database the other does not have, or has in an earlier state.

    Runs alone: commits, steps and events told of since then do not count, see `kept`.
    """
    with closing(connect_file(config, path, mode="ro")) as connection:
        connection.execute("ATTACH ? AS fresh", (f"{fresh.absolute().as_uri()}?mode=ro",))
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


def _store_rejected(path: Path, folder: Path, clock: Clock) -> Path:
    """A copy of a damaged file and what lies beside it, byte by byte, under a name that no backup has."""
    make_private_dir(folder)
    target = free_name(folder, f"{path.stem}-damaged", clock.now_ns())
    for ending in ("", *SIDECARS):
        if sidecar(path, ending).exists():
            copy = sidecar(target, ending)
            shutil.copyfile(sidecar(path, ending), copy)
            copy.chmod(PRIVATE_FILE)
    sync_dir(folder)
    return target
