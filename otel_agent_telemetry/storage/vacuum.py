"""Giving the room of deleted rows back to the disk, which SQLite does not do by itself."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.storage.database_file import connect_file
from otel_agent_telemetry.storage.errors_of import translated


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
