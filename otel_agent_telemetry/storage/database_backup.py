"""Copy a SQLite database that is in use: verified backups in a folder, and short-lived private copies.

Names of backups: `{database's stem}-{YYYYMMDDTHHMMSSZ}.sqlite`, with `-2`, `-3` … within one
second, mode 0600. A backup is on the disk before its name appears. While it is being made it
is `{name}.{pid}.partial`, locked by the process that makes it; one that no process has locked
was left by a process that was killed, and the next backup of that database removes it. A
backup that fails or does not verify leaves nothing behind.

Checking and restoring a backup is `restore`'s.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, StaticPool, create_engine

from otel_agent_telemetry.append import sync_dir, sync_file
from otel_agent_telemetry.clock import Clock, iso_utc
from otel_agent_telemetry.errors import SchemaError
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.storage.database_place import SIDECARS, check_database, sidecar
from otel_agent_telemetry.storage.engine import database_name, translated
from otel_agent_telemetry.trusted_files import make_private_dir


def backup_database(source: Path, folder: Path, clock: Clock) -> Path:
    """Make a verified copy of `source` in `folder`, which is made (0700) if missing, and return its path.

    Readers and a writer of the source go on; a commit waits for the copy. Raises
    StoreUnavailableError when it cannot be made (disk full, locked), SchemaError when the
    source or the copy is damaged.
    """
    with translated("backing up", str(source)):
        make_private_dir(folder)
        remove_partials(folder, source.stem)
        return backup_database_to(source, free_backup_name(folder, source.stem, clock.now_ns()))


def backup_database_to(source: Path, target: Path) -> Path:
    """Make a verified copy of `source` at `target`, where no file may be. Raises as `backup_database`."""
    with translated("backing up", str(source)), verified_copy(source, target) as copy:
        # Complete and on the disk: under its own name a backup is never seen half made.
        copy.rename(target)
        sync_dir(target.parent)
    return target


@contextmanager
def verified_copy(source: Path, target: Path) -> Iterator[Path]:
    """Make a copy of `source` beside `target`, on the disk, for the caller to rename; remove it if it was not."""
    with _partial(target) as partial:
        _copy(source, partial)
        sync_file(partial)
        yield partial


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """Yield the path under which a copy is made, locked so that no other process takes it for a leftover.

    Whatever is left at that path is removed at the end.
    """
    partial = partial_name(target, os.getpid())
    partial.unlink(missing_ok=True)
    lock = FileLock(partial)
    lock.try_acquire()
    if os.name == "nt":  # an open file cannot be renamed there
        lock.release()
    try:
        yield partial
    finally:
        for ending in ("", *SIDECARS):  # SQLite leaves a journal when the disk is full
            with contextlib.suppress(OSError):
                sidecar(partial, ending).unlink(missing_ok=True)
        lock.release()


def _copy(source: Path, partial: Path) -> None:
    """Copy the database and verify the copy. Raises SchemaError when the copy differs or is damaged."""
    check_database(source)
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as original,
        closing(sqlite3.connect(partial, isolation_level=None)) as copy,
    ):
        # The counts and the copy must be of one instant.
        original.execute("BEGIN")
        counts = _counts(original)
        original.backup(copy)
        original.execute("COMMIT")
        # A copy of a WAL database would be one too, and need its -wal and -shm files.
        copy.execute("PRAGMA journal_mode=DELETE").fetchall()
        if copy.execute("PRAGMA integrity_check").fetchone() != ("ok",) or _counts(copy) != counts:
            raise SchemaError(
                f"backing up {source}: the copy does not verify",
                hint="The database is damaged; keep it and rebuild with `agent-telemetry replay`.",
            )


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return table → rows."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    counts = {}
    for (name,) in names:
        quoted = '"' + name.replace('"', '""') + '"'
        counts[name] = connection.execute(f"SELECT count(*) FROM {quoted}").fetchone()[0]  # noqa: S608 - quoted
    return counts


def free_backup_name(folder: Path, stem: str, now_ns: int) -> Path:
    """Return an unused path for a backup made now."""
    stamp = iso_utc(now_ns)[:19].replace("-", "").replace(":", "") + "Z"
    target = folder / f"{stem}-{stamp}.sqlite"
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{stem}-{stamp}-{number}.sqlite"
    return target


def backups_of(folder: Path, stem: str) -> list[Path]:
    """Return the backups of a database in a folder, oldest first by their names, without other files."""
    if not folder.is_dir():
        return []
    name = re.compile(re.escape(stem) + r"-(\d{8}T\d{6}Z)(?:-(\d+))?\.sqlite", re.ASCII)
    found = [
        (match[1], int(match[2] or 1), path)
        for path in folder.iterdir()
        if (match := name.fullmatch(path.name)) and path.is_file() and not path.is_symlink()
    ]
    return [path for _, _, path in sorted(found)]


def prune_backups(newest: Path, stem: str, *, keep: int) -> list[Path]:
    """Remove the oldest backups beside `newest`, so that `keep` stay, it included; return the removed ones.

    `newest` stays even if a changed clock gave it an older name. Raises OSError.

    `keep`: at least 1.
    """
    others = [path for path in backups_of(newest.parent, stem) if path != newest]
    removed = others[: max(len(others) - (keep - 1), 0)]
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def partial_name(target: Path, pid: int) -> Path:
    """Return the name of a copy until it is complete."""
    return target.with_name(f"{target.name}.{pid}.partial")


def remove_partials(folder: Path, stem: str) -> None:
    """Remove the incomplete copies of this database that killed processes left. Never raises."""
    # The database's own stem only: the folder may hold backups of others that are being made now.
    name = re.compile(re.escape(stem) + r"(?:-\d{8}T\d{6}Z(?:-\d+)?)?\.\w+\.\d+\.partial(?:-journal)?", re.ASCII)
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            lock = FileLock(path)
            if name.fullmatch(path.name) and not path.is_symlink() and lock.try_acquire():
                lock.release(unlink=True)


def blocks_writers(connection: Connection) -> bool:
    """Return whether no process can commit while the connection reads: on SQLite, except in WAL mode."""
    if connection.dialect.name != "sqlite":
        return False
    return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()) != "wal"


@contextmanager
def private_copy(connection: Connection) -> Iterator[Connection]:
    """Copy a SQLite database as the connection sees it to a temporary file, and yield a connection to that.

    For readers that take so long that writers would wait for them. Copies hundreds of
    megabytes a second; the original connection may be closed then. SQLite removes the file.
    Raises StorageError.
    """
    original = connection.connection.driver_connection
    assert isinstance(original, sqlite3.Connection)
    with (
        translated("reading a copy of", database_name(connection.engine)),
        closing(sqlite3.connect("", isolation_level=None)) as copy,
    ):
        original.backup(copy)
        engine = create_engine("sqlite://", creator=lambda: copy, poolclass=StaticPool)
        with engine.connect() as own:
            yield own
