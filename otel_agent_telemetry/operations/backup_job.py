"""Taking a backup of the SQLite database, and removing older backups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_agent_telemetry.append import make_private_dir
from otel_agent_telemetry.clock import Clock, SystemClock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StoreUnavailableError
from otel_agent_telemetry.storage.database_backup import backup_database, backup_database_to, prune_backups
from otel_agent_telemetry.storage.database_file import database_file, reading_file, roll_back_torn_commit
from otel_agent_telemetry.storage.error_translation import translated
from otel_agent_telemetry.storage.restore import DatabaseContents, read_contents
from otel_agent_telemetry.storage.schema import database_state

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
