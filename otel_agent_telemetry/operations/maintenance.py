"""Maintenance that an operator starts: backups, the deletion of old data, and the repair of stored counts.

Backups are of a SQLite database, older ones are removed. Retention deletes old runs, old day
files of the journal, and old rotated files of captured entries. The stored counts of the
configured database are compared with its runs, and corrected. The work on rows and files is
done by `storage`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_agent_telemetry.append import sync_dir
from otel_agent_telemetry.buffer.layout import read_acknowledged, undelivered
from otel_agent_telemetry.buffer.segment import read_segment
from otel_agent_telemetry.capture.array_reader import rotated
from otel_agent_telemetry.clock import Clock, SystemClock, day_of, iso_utc
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deletion import CutOff
from otel_agent_telemetry.delivery.journal_cursor import waiting_lines
from otel_agent_telemetry.delivery.rejected import rejected_files
from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StoreUnavailableError
from otel_agent_telemetry.journal import day_of_file, journal_files, time_of
from otel_agent_telemetry.operations.deletion import note_marks
from otel_agent_telemetry.storage import counts
from otel_agent_telemetry.storage.counts import CountDifference
from otel_agent_telemetry.storage.database_backup import backup_database, backup_database_to, prune_backups
from otel_agent_telemetry.storage.database_file import (
    database_file,
    only_writer,
    reading_file,
    roll_back_torn_commit,
    vacuum,
)
from otel_agent_telemetry.storage.engine import translated
from otel_agent_telemetry.storage.figure_check import check_figures, repair_figures
from otel_agent_telemetry.storage.restore import DatabaseContents, read_contents
from otel_agent_telemetry.storage.row_retention import OldRows, Progress, count_old, delete_old
from otel_agent_telemetry.storage.schema import database_state
from otel_agent_telemetry.storage.store import Store, reading_database
from otel_agent_telemetry.trusted_files import make_private_dir

PG_DUMP_HINT: Final = "Use pg_dump and pg_restore for PostgreSQL."


@dataclass(frozen=True, slots=True)
class TakenBackup:
    """A verified backup, and the older ones that were removed."""

    contents: DatabaseContents
    pruned: list[Path]


def take_backup(
    config: TelemetryConfig, *, to: Path | None = None, keep: int | None = None, clock: Clock | None = None
) -> TakenBackup:
    """Copy the configured database to a folder, under a name with the time, or to a new file.

    `to` is a folder when it exists as one or has no suffix; default `{base}/backups`. Writers
    may continue; a commit waits for the copy. `keep` is the number of backups of this
    database to keep in the folder; older ones are removed after the new one was verified.
    Raises ConfigurationError, StorageError.
    """
    source = database_file(config, doing="backing up", hint=PG_DUMP_HINT)
    folder = config.backups_dir if to is None else to
    # The suffix decides for a path that does not exist: `--to backups` is a folder, `--to a.sqlite` a file.
    is_file = to is not None and not to.is_dir() and bool(to.suffix)
    if is_file and (keep is not None or folder.exists()):
        rule = "the file exists" if folder.exists() else "--keep needs a folder"
        raise ConfigurationError(
            f"backing up to {folder}: {rule}", hint="Name a folder, or a file that does not exist."
        )
    _check_source(config, source)
    made = _backup_to_file(source, folder) if is_file else backup_database(source, folder, clock or SystemClock())
    contents = read_contents(config, made)
    # Older backups are removed only now, when the new one has been read and found valid.
    with translated("pruning", str(made.parent)):
        return TakenBackup(contents, prune_backups(made, source.stem, keep=keep) if keep is not None else [])


def _backup_to_file(source: Path, target: Path) -> Path:
    """Write the backup to a path that does not exist yet; creates its folder."""
    with translated("backing up to", str(target)):
        make_private_dir(target.parent)
    return backup_database_to(source, target)


def _check_source(config: TelemetryConfig, source: Path) -> None:
    """Raise unless the database exists and has tables.

    A commit that a killed writer left half done is rolled back first, because the check reads only.
    """
    if not source.exists():
        raise StoreUnavailableError(f"backing up {source}: there is no database yet", hint="The first run creates it.")
    roll_back_torn_commit(config, source)
    with reading_file(config, source, "backing up") as connection:
        if database_state(connection) == "empty":
            raise SchemaError(f"backing up {source}: it holds no tables yet", hint="The first run creates them.")


_DAY_NS: Final = 86_400 * 1_000_000_000
_NEVER: Final = "99999999"


@dataclass(frozen=True, slots=True)
class OldFiles:
    """Old files to delete. `held_back` further old files are kept: records of them may not be delivered yet."""

    files: tuple[Path, ...]
    bytes: int
    held_back: int


def cutoff_of(days: int, now_ns: int) -> str:
    """Return the ISO 8601 time, in UTC, that is so many days before now."""
    return iso_utc(now_ns - days * _DAY_NS)


def count_old_rows(config: TelemetryConfig, cutoff: str, *, parts_cutoff: str | None = None) -> OldRows | None:
    """Return how many rows `delete_old_rows` would delete; None when there is no database yet. Raises StorageError."""
    with reading_database(config) as connection:
        return None if connection is None else count_old(connection, cutoff, parts_cutoff=parts_cutoff)


def delete_old_rows(
    config: TelemetryConfig, cutoff: str, *, parts_cutoff: str | None = None, on_progress: Progress | None = None
) -> OldRows | None:
    """Delete old rows in short transactions, so that other processes can write meanwhile.

    Returns how many; None when there is no database yet. Never creates or upgrades a database.
    Raises StorageError; what was deleted before that stays deleted.
    """
    # Raises for a database of another application or schema before anything is deleted.
    with reading_database(config) as connection:
        if connection is None:
            return None
    store = Store(config)
    try:
        # Before the rows: a journal without the cut-off would bring them back by `replay`.
        note_marks(config, (CutOff(cutoff=cutoff, applied_at=iso_utc(SystemClock.now_ns())),))
        return delete_old(store, cutoff, parts_cutoff=parts_cutoff, on_progress=on_progress)
    finally:
        store.close()


@contextmanager
def ready_to_vacuum(config: TelemetryConfig) -> Iterator[Path]:
    """Yield the SQLite file while no other process of this package may write to it.

    Raises ConfigurationError for PostgreSQL, StoreUnavailableError while a service runs.
    """
    path = database_file(config, doing="vacuuming", hint="PostgreSQL does this by itself (autovacuum).")
    with only_writer(path, doing="vacuuming"):
        yield path


def shrink(config: TelemetryConfig, path: Path) -> tuple[int, int]:
    """Vacuum the file. Returns its bytes before and after; (0, 0) when it does not exist."""
    return vacuum(config, path) if path.exists() else (0, 0)


def old_day_files(config: TelemetryConfig, cutoff: str, *, now_ns: int) -> OldFiles:
    """Return the day files that ended before the cutoff, and older ones beyond `TELEMETRY_JOURNAL_MAX_BYTES`.

    Never today's or yesterday's, none from the first day on of which the buffer has
    undelivered records, and none with events and steps that a service does not have. Raises OSError.
    """
    # A run that spans midnight has lines in yesterday's file.
    yesterday = day_of(now_ns - _DAY_NS)
    ends_before = min(cutoff[:10].replace("-", ""), yesterday)
    # With copies: an archive that is being made goes with the file that it is made of.
    files = [path for path in journal_files(config.ndjson_dir, with_copies=True) if day_of_file(path) < yesterday]
    too_many = _beyond(files, config.journal_max_bytes)
    old = [path for path in files if day_of_file(path) < ends_before or path in too_many]
    needed, waiting = _first_day_in_buffer(config.buffer_dir), waiting_lines(config)
    deletable = tuple(path for path in old if day_of_file(path) < needed and path not in waiting)
    return OldFiles(deletable, sum(path.stat().st_size for path in deletable), len(old) - len(deletable))


def old_rejected(config: TelemetryConfig, cutoff: str, *, now_ns: int) -> OldFiles:
    """Return the files of refused records before the cutoff or beyond their size, never today's. Raises OSError."""
    files = [path for path in rejected_files(config.buffer_dir) if path.stem < day_of(now_ns)]
    too_many = _beyond(files, config.rejected_max_bytes)
    old = tuple(path for path in files if path.stem < cutoff[:10].replace("-", "") or path in too_many)
    return OldFiles(old, sum(path.stat().st_size for path in old), 0)


def _beyond(files: Sequence[Path], max_bytes: int | None) -> set[Path]:
    """Return the oldest of some files, given oldest first, without which the others are no larger than that."""
    total, found = 0, set[Path]()
    for path in reversed(files if max_bytes is not None else ()):
        total += path.stat().st_size
        if max_bytes is not None and total > max_bytes:
            found.add(path)
    return found


def old_captures(config: TelemetryConfig, cutoff: str) -> OldFiles:
    """Return the rotated files of captured entries whose last entry is older than the cutoff. Raises OSError."""
    # Rotated files have the time of their last entry in the name, in basic format.
    moment = cutoff.replace("-", "").replace(":", "")
    old = tuple(
        path for path in rotated(config.capture_file) if path.name[len(config.capture_file.stem) + 1 :] < moment
    )
    return OldFiles(old, sum(path.stat().st_size for path in old), 0)


def delete_files(*found: OldFiles | None) -> None:
    """Remove these files and sync their folders, so that a power cut does not bring them back.

    A file that is missing already is skipped. Raises OSError.
    """
    files = [path for old in found if old is not None for path in old.files]
    for path in files:
        path.unlink(missing_ok=True)
    # The names go first and the folder is synced once: a sync for each file would take minutes.
    for folder in {path.parent for path in files}:
        sync_dir(folder)


def _first_day_in_buffer(folder: Path) -> str:
    """Return the earliest UTC day of which the buffer can have undelivered records."""
    return min(map(_first_day_of, undelivered(folder)), default=_NEVER)


def _first_day_of(segment: Path) -> str:
    """Return the same for one segment.

    Lines are in the order in which they were written, each no earlier than the time in it, so
    the first line with a time decides. A torn line can be as old as its writer, whose start
    is in the file's name.
    """
    for line in read_segment(segment, offset=read_acknowledged(segment), to_the_end=True):
        days = [time[:10].replace("-", "") for time in map(time_of, line.records) if time]
        if days or line.torn:
            return min([*days, *([segment.name[:8]] if line.torn else [])])
    return _NEVER


def check_counts(config: TelemetryConfig) -> list[CountDifference] | None:
    """Return the counts and figures that differ from the runs; None when there is no database yet.

    Reads every run; other processes may write meanwhile. Raises StorageError.
    """
    with reading_database(config) as connection:
        return None if connection is None else [*counts.check_counts(connection), *check_figures(connection)]


def repair_counts(config: TelemetryConfig) -> list[CountDifference]:
    """Correct the counts and figures in one transaction and return those that differed.

    Raises StoreUnavailableError when a service writes the SQLite file or the database cannot
    be written now; nothing is changed then.
    """
    store = Store(config)
    path = store.path
    try:
        # A service keeps its writer lock while it runs, so a repair cannot come between its transactions. A server's
        # transactions need no such lock.
        with nullcontext() if path is None else only_writer(path, doing="counting the runs of"):
            return store.transact(lambda one: [*counts.repair_counts(one), *repair_figures(one)])
    finally:
        store.close()
