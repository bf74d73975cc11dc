"""A SQLite file opened over the standard library alone: made, found current, or refused untouched.

For a recording process, which imports neither SQLAlchemy nor Alembic on its background
thread. It never upgrades: a file of an older version is for a command or a service to upgrade.

`HeldDescriptors` checks that the descriptors which SQLite opened for a file are still its own.
An application may close descriptors by number (`os.closerange`), and its next files get those
numbers. SQLite writes to its numbers whatever they lead to, so the check comes before a write.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import SchemaError
from otel_agent_telemetry.storage.database_place import check_database, make_database_file
from otel_agent_telemetry.storage.sqlite_ddl import HEAD_REVISION, KNOWN_REVISIONS, STATEMENTS

_CACHED_STATEMENTS: Final = 256
_VERSION_7_SIGNS: Final = frozenset({"run_id", "agent_name", "status"})
OLDER_HINT: Final = "`agent-telemetry sync`, `init-db` or `serve` upgrades it, after a backup; records wait until then."


def open_sqlite(config: TelemetryConfig) -> sqlite3.Connection:
    """Return a connection to the configured file, made if it is missing, in autocommit.

    Blocks for the busy timeout on a locked file. Raises SchemaError for a file that is not
    ours or of another version, which is left untouched; sqlite3.Error; OSError.
    """
    path = config.db_path
    make_database_file(path)
    check_database(path)
    if path.stat().st_size == 1:  # SQLite would take it for an empty database and write over it
        raise SchemaError(f"opening {path}: file is not a database", hint="Move the file away. Nothing was changed.")
    connection = sqlite3.connect(
        path,
        timeout=config.db_busy_timeout_ms / 1000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
    )
    try:
        # Before any pragma that writes: a file of another application stays as it is, to the byte.
        is_new = not is_current(connection, path)
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute(f"PRAGMA synchronous={config.db_synchronous}")
        connection.execute(f"PRAGMA journal_mode={config.db_journal_mode}").fetchall()
        if is_new:
            _create(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run one writing transaction: it waits for the lock before it has read anything, and ends whole or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After a full disk or an I/O error SQLite may have rolled back by itself; ROLLBACK would be an error then.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def is_current(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the file has this version's tables; False when it has none. Raises SchemaError."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    revision = None
    if "alembic_version" in tables:
        revision = next(
            (str(number) for (number,) in connection.execute("SELECT version_num FROM alembic_version")), None
        )
    if revision == HEAD_REVISION:
        return True
    if revision in KNOWN_REVISIONS or (revision is None and _is_version_7(connection, tables)):
        raise SchemaError(f"opening {path}: its schema is older than this version", hint=OLDER_HINT)
    if revision is not None:
        raise SchemaError(
            f"opening {path}: its schema revision {revision!r} is not known here (newest: {HEAD_REVISION})",
            hint="It was written by a newer version of this package, or is not ours. Nothing was changed.",
        )
    if tables - {"alembic_version"}:
        raise SchemaError(
            f"opening {path}: it holds tables of another application ({', '.join(sorted(tables)[:3])})",
            hint="Point TELEMETRY_DB_PATH to a file of its own. Nothing was changed.",
        )
    return False


def _is_version_7(connection: sqlite3.Connection, tables: set[str]) -> bool:
    """Return whether the tables are those of version 7, which kept no schema revision."""
    if "agent_runs" not in tables:
        return False
    return {row[1] for row in connection.execute("PRAGMA table_info(agent_runs)")} >= _VERSION_7_SIGNS


def _create(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables of this version in one transaction."""
    with transaction(connection):
        # Asked again under the write lock: the first answer was given before it.
        if is_current(connection, path):  # another process was faster
            return
        for statement in STATEMENTS:
            connection.execute(statement)
        connection.execute("INSERT INTO alembic_version (version_num) VALUES (?)", (HEAD_REVISION,))


_LISTING: Final = Path("/proc/self/fd")


class HeldDescriptors:
    """The descriptors of this process that lead now to a database file, or to its `-wal` and `-shm`."""

    def __init__(self, path: Path) -> None:
        real = os.path.realpath(path)
        self._identities = dict(_descriptors_of({real, f"{real}-wal", f"{real}-shm"}))

    def intact(self) -> bool:
        """Return whether each still leads to the same file; True where the platform lists no descriptors."""
        return all(_identity(number) == identity for number, identity in self._identities.items())


def _descriptors_of(paths: set[str]) -> list[tuple[int, tuple[int, int]]]:
    """Return number and identity of the descriptors that lead to one of these paths."""
    try:
        numbers = [int(name) for name in os.listdir(_LISTING)]
    except OSError:  # no such listing
        return []
    return [(number, _identity(number)) for number in numbers if _target(number) in paths]


def _target(number: int) -> str:
    """Return the path that a descriptor leads to; "" for a closed one."""
    try:
        return str((_LISTING / str(number)).readlink())
    except OSError:  # closed meanwhile
        return ""


def _identity(number: int) -> tuple[int, int]:
    """Return device and inode of an open descriptor; zeros for a closed one."""
    try:
        status = os.fstat(number)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino
