"""Create or upgrade a database to this version, or refuse it unchanged.

A current database, the usual case, costs one query of `alembic_version` and no import of
Alembic. One process at a time upgrades a database (`{database}.upgrade.lock`; an advisory lock
on PostgreSQL), after a backup and in one transaction: it ends upgraded or unchanged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import Connection, Engine, inspect, text

from otel_agent_telemetry import forks
from otel_agent_telemetry.clock import Clock, SystemClock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import SchemaError, StoreUnavailableError
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.storage.database_backup import backup_database
from otel_agent_telemetry.storage.engine import database_name, make_engine, reading, sqlite_path, translated, writing

_log: Final = logging.getLogger(__name__)
_MIGRATIONS: Final = Path(__file__).with_name("migrations")
KNOWN_REVISIONS: Final = tuple(sorted(path.name[1:5] for path in (_MIGRATIONS / "versions").glob("v[0-9]*_*.py")))
"""The revisions of the files `versions/v{revision}_{name}.py`, oldest first."""
HEAD_REVISION: Final = KNOWN_REVISIONS[-1]
VERSION_TABLE: Final = "alembic_version"

DatabaseState = Literal["empty", "version_7", "older", "current"]

_VERSION_7_SIGNS: Final = frozenset({"run_id", "agent_name", "status"})
_PAUSE_S: Final = 0.02
# Key of an advisory lock of PostgreSQL, "oat_sch" in ASCII: services that start together upgrade one by one.
_UPGRADE_LOCK: Final = 0x6F61745F736368
_migrating = threading.Lock()
"""Alembic keeps its running migration in global variables, so a process runs one at a time, of any database."""


@dataclass(frozen=True, slots=True)
class SchemaReport:
    """What `ensure_schema` did. `backup`: the copy made before an upgrade; `notes`: what that did not carry over."""

    outcome: Literal["created", "upgraded", "current"]
    revision: str
    backup: Path | None = None
    notes: tuple[str, ...] = ()


def ensure_schema(engine: Engine, config: TelemetryConfig, *, clock: Clock | None = None) -> SchemaReport:
    """Create the tables of this version, or upgrade the database to it.

    Blocks while another process upgrades it, at most for the busy timeout. Raises SchemaError
    for a database of another application, a damaged one and one newer than this code, which
    stay unchanged, and StoreUnavailableError when the database cannot be used now.
    """
    path = sqlite_path(engine)
    if path is not None:
        _refuse_other_files(path)
    if _state_now(engine if path is None else make_engine(config, set_journal_mode=False)) == "current":
        return SchemaReport("current", HEAD_REVISION)
    with nullcontext() if path is None else _upgrade_lock(path, config.db_busy_timeout_ms / 1000):
        return _bring_up(engine, config, path, clock or SystemClock())


def _refuse_other_files(path: Path) -> None:
    """Refuse a file of one byte, which SQLite takes for an empty database and would overwrite.

    SQLite refuses other foreign files itself. The file is not opened here: closing it would
    drop every lock that SQLite holds on it for this process (POSIX locks belong to the process,
    not to the descriptor).
    """
    with translated("opening", str(path)):
        if not path.is_file() or path.stat().st_size != 1:
            return
    raise SchemaError(
        f"opening {path}: file is not a database",
        hint="Move the file away, or point TELEMETRY_DB_PATH elsewhere. Nothing was changed.",
    )


def _state_now(engine: Engine) -> DatabaseState:
    """Return the state of the database as a reader sees it, without a lock."""
    try:
        with reading(engine, "opening") as connection:
            return database_state(connection)
    finally:
        engine.dispose()


def _bring_up(engine: Engine, config: TelemetryConfig, path: Path | None, clock: Clock) -> SchemaReport:
    """Create or upgrade the tables in one transaction, after a backup of a file of an older version."""
    with writing(engine, "upgrading") as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        state = database_state(connection)
        if state == "current":
            return SchemaReport("current", HEAD_REVISION)
        backup = None
        if state != "empty" and path is not None:
            # Inside the transaction: no other process can write between the backup and the upgrade.
            backup = backup_database(path, config.backups_dir, clock)
        # One transaction for all migrations: SQLite and PostgreSQL roll back changes of tables, too.
        notes = tuple(_migrate(connection))
    for note in notes:
        _log.warning("upgrading %s: %s", database_name(engine), note)
    return SchemaReport("created" if state == "empty" else "upgraded", HEAD_REVISION, backup, notes)


def database_state(connection: Connection) -> DatabaseState:
    """Return the state of a database. Raises SchemaError for one of another application or a newer version."""
    where = database_name(connection.engine)
    inspector = inspect(connection)
    tables = set(inspector.get_table_names())
    revision = _revision(connection) if VERSION_TABLE in tables else None
    if revision is not None:
        return _state_of_revision(revision, where)
    if "agent_runs" in tables and connection.dialect.name == "sqlite":
        columns = {column["name"] for column in inspector.get_columns("agent_runs")}
        # Version 7 recorded no revision: its table is known by columns that every release of it had.
        if columns >= _VERSION_7_SIGNS:
            return "version_7"
    if tables - {VERSION_TABLE}:
        is_file = connection.dialect.name == "sqlite"
        own = "TELEMETRY_DB_PATH to a file of its own" if is_file else "TELEMETRY_DATABASE_URL to a database of its own"
        raise SchemaError(
            f"opening {where}: it holds tables of another application ({_some(tables)})",
            hint=f"Point {own}. Nothing was changed.",
        )
    return "empty"


def _state_of_revision(revision: str, where: str) -> DatabaseState:
    """Return the state for a recorded revision. Raises SchemaError for one that is not known here."""
    if revision not in KNOWN_REVISIONS:
        raise SchemaError(
            f"opening {where}: its schema revision {revision!r} is not known here (newest: {HEAD_REVISION})",
            hint="It was written by a newer version of this package, or is not ours. Nothing was changed.",
        )
    return "current" if revision == HEAD_REVISION else "older"


def _revision(connection: Connection) -> str | None:
    """Return the recorded revision; None for an empty version table."""
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    return None if found is None else str(found)


def _some(tables: set[str]) -> str:
    """Return three of the names at most, for a message."""
    shown = sorted(tables)[:3]
    return ", ".join(shown) + (", …" if len(tables) > len(shown) else "")


def _renew_lock() -> None:
    """Replace the lock in a forked child: a background thread of the parent may have held it."""
    global _migrating  # noqa: PLW0603 - the one lock of this module
    _migrating = threading.Lock()


forks.at_fork(in_child=_renew_lock)


def _migrate(connection: Connection) -> list[str]:
    """Run the migrations inside the connection's transaction; return their notes."""
    from alembic import command
    from alembic.config import Config

    settings = Config()
    # Alembic reads options through configparser, to which a single % in a folder's name is an error.
    settings.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    notes: list[str] = settings.attributes.setdefault("notes", [])
    with _migrating:
        command.upgrade(settings, "head")
    return notes


@contextmanager
def _upgrade_lock(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock of upgrades of this file. Raises StoreUnavailableError after `wait_s`."""
    lock = FileLock(path.with_name(f"{path.name}.upgrade.lock"))
    deadline = time.monotonic() + wait_s
    try:
        while not lock.try_acquire():
            if time.monotonic() >= deadline:
                raise StoreUnavailableError(
                    f"upgrading {path}: another process has been at it for {wait_s:g} s",
                    hint="Wait for it to finish, or raise TELEMETRY_DB_BUSY_TIMEOUT_MS.",
                )
            time.sleep(_PAUSE_S)
    except OSError as problem:
        raise StoreUnavailableError(f"locking {lock.path}: {problem.strerror or problem}") from problem
    try:
        yield
    finally:
        # Removed, because it is needed once in the life of a database and would lie beside it for ever.
        lock.release(unlink=True)
