"""The configured database where it must be a file of ours: which one, and who else writes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError, StoreUnavailableError
from otel_agent_telemetry.storage.engine import database_name, make_read_engine, reading, sqlite_path
from otel_agent_telemetry.storage.writer_lock import WriterLock

SIDECARS: Final = ("-journal", "-wal", "-shm")
"""What SQLite keeps beside a database file, by the end of its name."""


def database_file(config: TelemetryConfig, *, doing: str, hint: str) -> Path:
    """The SQLite file that is configured; raises ConfigurationError with the hint for a server."""
    engine = make_read_engine(config)
    path = sqlite_path(engine)
    if path is None:
        raise ConfigurationError(f"{doing} {database_name(engine)}: it is no SQLite file", hint=hint)
    return path


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


@contextmanager
def only_writer(path: Path, *, doing: str) -> Iterator[None]:
    """No service and no deliverer of ours writes the file inside; raises StoreUnavailableError when one does."""
    lock = WriterLock(path)
    if not lock.try_acquire():
        raise StoreUnavailableError(f"{doing} {path}: {_holder(lock)} writes it", hint="Stop it first.")
    try:
        yield
    finally:
        lock.release()


def _holder(lock: WriterLock) -> str:
    holder = lock.holder()
    if holder is None:
        return "another process"
    where = f" (process {holder.pid} on {holder.host}, since {holder.started})"
    return (f"the service at {holder.url}" if holder.url else "another process") + where
