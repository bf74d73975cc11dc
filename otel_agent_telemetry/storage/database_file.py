"""The configured database where it must be a file of ours: which one, and who else writes it.

Giving the room of deleted rows back to the disk, which SQLite does not do by itself.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError, StoreUnavailableError
from otel_agent_telemetry.storage.engine import database_name, make_read_engine, reading, sqlite_path
from otel_agent_telemetry.storage.error_translation import translated
from otel_agent_telemetry.storage.writer_lock import WriterLock, real_path

SIDECARS: Final = ("-journal", "-wal", "-shm")
"""What SQLite keeps beside a database file, by the end of its name."""


def database_file(config: TelemetryConfig, *, doing: str, hint: str) -> Path:
    """The SQLite file that is configured, behind symbolic links; ConfigurationError with the hint for a server."""
    engine = make_read_engine(config)
    path = sqlite_path(engine)
    if path is None:
        raise ConfigurationError(f"{doing} {database_name(engine)}: it is no SQLite file", hint=hint)
    return real_path(path)


def sidecar(path: Path, ending: str) -> Path:
    """One of the files that SQLite keeps beside a database."""
    return path.with_name(path.name + ending)


@contextmanager
def reading_file(config: TelemetryConfig, path: Path, operation: str) -> Iterator[Connection]:
    """One consistent view of a SQLite file that is not necessarily the configured one. Raises StorageError."""
    engine = make_read_engine(config.with_(db_path=path, database_url=None))
    try:
        with reading(engine, operation) as connection:
            yield connection
    finally:
        engine.dispose()


def connect_file(config: TelemetryConfig, path: Path, *, mode: str) -> sqlite3.Connection:
    """SQLite's own connection to a file that is there, `ro` or `rw`, in autocommit. Raises sqlite3.Error."""
    where = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(where, uri=True, timeout=config.db_busy_timeout_ms / 1000, isolation_level=None)


def undo_torn_commit(config: TelemetryConfig, path: Path) -> None:
    """Undo what a process left that died in the middle of a commit: a reader that may not write cannot.

    Whatever is wrong is left to be said by whoever reads.
    """
    if not sidecar(path, "-journal").exists():
        return
    with contextlib.suppress(sqlite3.Error), closing(connect_file(config, path, mode="rw")) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


@contextmanager
def only_writer(path: Path, *, doing: str) -> Iterator[None]:
    """No service and no deliverer of ours writes the file inside; raises StoreUnavailableError when one does."""
    lock = WriterLock(path)
    if not lock.try_acquire():
        raise StoreUnavailableError(f"{doing} {path}: {lock.describe_holder()} writes it", hint="Stop it first.")
    try:
        yield
    finally:
        lock.release()


def vacuum(config: TelemetryConfig, path: Path) -> tuple[int, int]:
    """Rewrite the file without its free pages: bytes before and after.

    Needs about as much room again while it runs, and every writer waits for it: the caller
    holds `database_file.only_writer`. Killed at any point it leaves the file as it was.
    Raises StoreUnavailableError.
    """
    with translated("vacuuming", str(path)):
        before = path.stat().st_size
        with closing(connect_file(config, path, mode="rw")) as connection:
            connection.execute("VACUUM")
        return before, path.stat().st_size
