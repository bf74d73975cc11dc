"""A copy of a SQLite database that is being used: consistent, verified, private.

`{folder}/{database's stem}-{YYYYMMDDTHHMMSSZ}.sqlite`, 0600, on the disk before its name
appears. A copy that fails or does not verify leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from otel_agent_telemetry.append import PRIVATE_FILE, make_private_dir, sync_dir
from otel_agent_telemetry.clock import Clock, iso_utc
from otel_agent_telemetry.errors import SchemaError
from otel_agent_telemetry.storage.errors_of import translated


def backup_sqlite(source: Path, folder: Path, clock: Clock) -> Path:
    """The path of a verified copy of `source` in `folder`, which is made (0700) if missing.

    Readers and a writer of the source go on; a commit waits for the copy. Raises
    StoreUnavailableError when it cannot be made (disk full, locked), SchemaError when the
    source or the copy is damaged.
    """
    with translated("backing up", str(source)):
        make_private_dir(folder)
        target = _free_name(folder, source.stem, clock.now_ns())
        with _partial(target) as partial:
            _copy(source, partial)
            _sync(partial)
            partial.rename(target)
        sync_dir(folder)
        return target


def _free_name(folder: Path, stem: str, now_ns: int) -> Path:
    stamp = iso_utc(now_ns)[:19].replace("-", "").replace(":", "") + "Z"
    target = folder / f"{stem}-{stamp}.sqlite"
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{stem}-{stamp}-{number}.sqlite"
    return target


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE))
    try:
        yield partial
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


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
