"""Opening the configured database for reading only: it is never created, upgraded or locked for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import SchemaError
from otel_agent_telemetry.storage.database_file import roll_back_torn_commit
from otel_agent_telemetry.storage.engine import database_name, make_read_engine, reading, sqlite_path
from otel_agent_telemetry.storage.schema import database_state


@contextmanager
def reading_database(config: TelemetryConfig) -> Iterator[Connection | None]:
    """Yield a consistent view for the functions of `storage.queries`; None when there is no database yet.

    Raises SchemaError for a database of another application or of an older schema, which is
    not changed, and StoreUnavailableError when it cannot be read now. Blocks for the busy
    timeout on a locked database. An OSError raised inside the block becomes a StorageError,
    so callers print nothing inside it.
    """
    engine = _engine(config)
    try:
        if engine is None:
            yield None
            return
        with reading(engine, "reading") as connection:
            yield connection if _is_current(connection) else None
    finally:
        if engine is not None:
            engine.dispose()


def _engine(config: TelemetryConfig) -> Engine | None:
    """Return an engine that can be read from now; None when the file is missing."""
    engine = make_read_engine(config)
    path = sqlite_path(engine)
    if path is None:
        return engine
    if not path.exists():
        return None
    # A read-only connection could not, and would fail until the next writer comes.
    roll_back_torn_commit(config, path)
    return engine


def _is_current(connection: Connection) -> bool:
    """Return False for an empty database. Raises SchemaError unless the schema is this version's."""
    state = database_state(connection)
    if state in ("version_7", "older"):
        raise SchemaError(
            f"reading {database_name(connection.engine)}: its schema is older than this version",
            hint="`agent-telemetry init-db` upgrades it, after a backup.",
        )
    return state == "current"
