"""A copy of a SQLite database that is being used: consistent, verified, private.

`{folder}/{database's stem}-{YYYYMMDDTHHMMSSZ}.sqlite`, 0600, on the disk before its name
appears. A copy that fails or does not verify leaves nothing behind; what a killed process
left is removed by the next backup of that database.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from otel_agent_telemetry.append import make_private_dir, sync_dir
from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.errors import SchemaError
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.storage.backup_names import free_name, partial_name, sweep_partials
from otel_agent_telemetry.storage.database_file import SIDECARS, sidecar
from otel_agent_telemetry.storage.errors_of import translated


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
