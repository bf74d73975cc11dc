"""A copy of a SQLite database that is being used: consistent, verified, private.

`{folder}/{database's stem}-{YYYYMMDDTHHMMSSZ}.sqlite`, 0600, on the disk before its name
appears. A copy that fails or does not verify leaves nothing behind; what a killed process
left is removed by the next backup of that database.

Names of backups: `{stem}-{YYYYMMDDTHHMMSSZ}.sqlite`, with `-2`, `-3` … within one second.

While a copy is being made it is `{name}.{pid}.partial`, locked by the process that makes it;
one that nobody has locked was left by a process that was killed.

A private copy of a SQLite database, for whoever reads so long that writers would wait for it.
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

from otel_agent_telemetry.append import make_private_dir, sync_dir
from otel_agent_telemetry.clock import Clock, iso_utc
from otel_agent_telemetry.errors import SchemaError
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.storage.database_file import SIDECARS, sidecar
from otel_agent_telemetry.storage.engine import database_name
from otel_agent_telemetry.storage.error_translation import translated


def free_name(folder: Path, stem: str, now_ns: int) -> Path:
    """A path for a backup made now, at which nothing stands."""
    stamp = iso_utc(now_ns)[:19].replace("-", "").replace(":", "") + "Z"
    target = folder / f"{stem}-{stamp}.sqlite"
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{stem}-{stamp}-{number}.sqlite"
    return target


def backups_of(folder: Path, stem: str) -> list[Path]:
    """The backups of a database in a folder, oldest first by their names; other files are left out."""
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
    """Remove older backups beside the one just made, so that `keep` stay with it; the removed ones.

    The one just made stays whatever the clock said then. Raises OSError.
    """
    others = [path for path in backups_of(newest.parent, stem) if path != newest]
    doomed = others[: max(len(others) - (keep - 1), 0)]
    for path in doomed:
        path.unlink(missing_ok=True)
    return doomed


def partial_name(target: Path, pid: int) -> Path:
    """What a copy is called until it is whole."""
    return target.with_name(f"{target.name}.{pid}.partial")


def sweep_partials(folder: Path, stem: str) -> None:
    """Remove what killed processes left half made of this database. Never raises."""
    name = re.compile(re.escape(stem) + r"(?:-\d{8}T\d{6}Z(?:-\d+)?)?\.\w+\.\d+\.partial(?:-journal)?", re.ASCII)
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            lock = FileLock(path)
            if name.fullmatch(path.name) and not path.is_symlink() and lock.try_acquire():
                lock.release(unlink=True)


def backup_sqlite(source: Path, folder: Path, clock: Clock) -> Path:
    """The path of a verified copy of `source` in `folder`, which is made (0700) if missing.

    Readers and a writer of the source go on; a commit waits for the copy. Raises
    StoreUnavailableError when it cannot be made (disk full, locked), SchemaError when the
    source or the copy is damaged.
    """
    with translated("backing up", str(source)):
        make_private_dir(folder)
        sweep_partials(folder, source.stem)
        return backup_to(source, free_name(folder, source.stem, clock.now_ns()))


def backup_to(source: Path, target: Path) -> Path:
    """`target`, as a verified copy of `source`; the caller has seen that nothing stands there. Raises as above."""
    with translated("backing up", str(source)), verified_copy(source, target) as copy:
        copy.rename(target)
        sync_dir(target.parent)
    return target


@contextmanager
def verified_copy(source: Path, target: Path) -> Iterator[Path]:
    """A copy of `source` beside `target`, forced to the disk, to be renamed; removed when it was not."""
    with _partial(target) as partial:
        _copy(source, partial)
        _sync(partial)
        yield partial


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    partial = partial_name(target, os.getpid())
    partial.unlink(missing_ok=True)
    lock = FileLock(partial)
    lock.try_acquire()
    if os.name == "nt":  # where an open file cannot be renamed
        lock.release()
    try:
        yield partial
    finally:
        for ending in ("", *SIDECARS):  # SQLite leaves a journal where the disk is full
            with contextlib.suppress(OSError):
                sidecar(partial, ending).unlink(missing_ok=True)
        lock.release()


def _copy(source: Path, partial: Path) -> None:
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as original,
        closing(sqlite3.connect(partial, isolation_level=None)) as copy,
    ):
        original.execute("BEGIN")
        counts = _counts(original)
        original.backup(copy)
        original.execute("COMMIT")
        copy.execute("PRAGMA journal_mode=DELETE").fetchall()
        if copy.execute("PRAGMA integrity_check").fetchone() != ("ok",) or _counts(copy) != counts:
            raise SchemaError(
                f"backing up {source}: the copy does not verify",
                hint="The database is damaged; keep it and rebuild with `agent-telemetry replay`.",
            )


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Table → rows."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    counts = {}
    for (name,) in names:
        quoted = '"' + name.replace('"', '""') + '"'
        counts[name] = connection.execute(f"SELECT count(*) FROM {quoted}").fetchone()[0]  # noqa: S608 - quoted
    return counts


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def holds_writers_up(connection: Connection) -> bool:
    """Whether nobody can commit while the connection has its view: SQLite, but for its WAL mode."""
    return connection.dialect.name == "sqlite" and _journal_mode(connection) != "wal"


def _journal_mode(connection: Connection) -> str:
    return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())


@contextmanager
def private_copy(connection: Connection) -> Iterator[Connection]:
    """A copy of a SQLite database as the connection sees it, in a temporary file that SQLite removes.

    Hundreds of megabytes a second; the connection may be closed then. Raises StorageError.
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
