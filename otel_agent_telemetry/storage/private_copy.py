"""A private copy of a SQLite database, for whoever reads so long that writers would wait for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from sqlalchemy import Connection, StaticPool, create_engine

from otel_agent_telemetry.storage.engine import database_name
from otel_agent_telemetry.storage.errors_of import translated


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
