"""What is done to a SQLite database as a file: its path and sidecars, SQLite's own connection, VACUUM, one writer.

Owns what needs a file and not a server. Connections for reading and writing rows are
`engine`'s, the lock file itself is `writer_lock`'s.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError, StoreUnavailableError
from otel_agent_telemetry.storage.database_place import check_database, sidecar
from otel_agent_telemetry.storage.engine import database_name, make_read_engine, reading, sqlite_path, translated
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.trusted_files import followed


def database_file(config: TelemetryConfig, *, doing: str, hint: str) -> Path:
    """Return the configured SQLite file, symbolic links resolved. Raises ConfigurationError for a server.

    `doing` is a gerund for the error's message, `hint` its hint.
    """
    engine = make_read_engine(config)
    path = sqlite_path(engine)
    if path is None:
        raise ConfigurationError(f"{doing} {database_name(engine)}: it is not a SQLite file", hint=hint)
    return followed(path)


@contextmanager
def reading_file(config: TelemetryConfig, path: Path, operation: str) -> Iterator[Connection]:
    """Yield a consistent view of a SQLite file, which need not be the configured one. Raises StorageError."""
    engine = make_read_engine(config.with_(db_path=path, database_url=None))
    try:
        with reading(engine, operation) as connection:
            yield connection
    finally:
        engine.dispose()


def connect_file(config: TelemetryConfig, path: Path, *, mode: str) -> sqlite3.Connection:
    """Return SQLite's own connection to an existing file, `ro` or `rw`, in autocommit.

    Raises sqlite3.Error, and UntrustedFileError for a file that SQLite may not open.
    """
    check_database(path)
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=config.db_busy_timeout_ms / 1000, isolation_level=None)


def roll_back_torn_commit(config: TelemetryConfig, path: Path) -> None:
    """Roll back the commit of a process that died in the middle of it, if there is one (a *hot journal*).

    A read-only connection cannot do that and fails. Never raises: other faults are reported
    when the file is read.
    """
    if not sidecar(path, "-journal").exists():
        return
    # Any read makes SQLite roll back a hot journal; the journal of a living writer is locked and stays.
    with contextlib.suppress(sqlite3.Error, OSError), closing(connect_file(config, path, mode="rw")) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


@contextmanager
def only_writer(path: Path, *, doing: str) -> Iterator[None]:
    """Hold the writer lock of the file inside. Raises StoreUnavailableError when another process holds it."""
    lock = WriterLock(path)
    if not lock.try_acquire():
        raise StoreUnavailableError(f"{doing} {path}: {lock.describe_holder()} writes it", hint="Stop it first.")
    try:
        yield
    finally:
        lock.release()


def vacuum(config: TelemetryConfig, path: Path) -> tuple[int, int]:
    """Rewrite the file without the pages of deleted rows; return its bytes before and after.

    SQLite does not give them back by itself. Needs about as much room again while it runs,
    and every writer waits for it: the caller holds `only_writer`. Killed at any point it
    leaves the file as it was.
    Raises StoreUnavailableError.
    """
    with translated("vacuuming", str(path)):
        before = path.stat().st_size
        with closing(connect_file(config, path, mode="rw")) as connection:
            connection.execute("VACUUM")
        return before, path.stat().st_size
