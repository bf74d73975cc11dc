"""Open the database for writing and for reading: engines, connections and transactions.

Each SQLite connection gets the configured journal mode, synchronous level and busy timeout.
A writing transaction begins IMMEDIATE, so that it waits for the lock before it has read
anything and never fails halfway for having become stale. Making an engine touches nothing;
the first connection creates the file (0600) and its folder (0700).

Errors of drivers, SQLAlchemy and the file system are translated into those of this package
once, here at the boundary (`translated`):

`StoreUnavailableError`: locked, full, read-only, unreachable; trying later may help.
`SchemaError`: not a database, damaged, or tables of another application.
`StorageError`: the database refused a value; trying the same again does not help.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.storage.database_place import check_database, make_database_file

_MAX_CAUSE: Final = 200
_Meaning = tuple[type[StorageError], str]
"""The error to raise, and its hint."""

_UNAVAILABLE_HINTS: Final = {
    "authentication failed": "Check the user and the password in TELEMETRY_DATABASE_URL.",
    "no pg_hba.conf entry": "The server accepts no connection from this host: allow it in its pg_hba.conf.",
    "fatal:  database": "Create it first: createdb, as in docs/postgresql.md.",
    "is locked": "Another process is writing to it; try again, or raise TELEMETRY_DB_BUSY_TIMEOUT_MS.",
    "is full": "Free some space on its disk.",
    "disk i/o error": "Its disk is full or failing.",
    "readonly": "Make the file and its folder writable for this user.",
    "read-only": "Make the file and its folder writable for this user.",
    **dict.fromkeys(
        ("a symbolic link", "not a regular file", "a shared folder"),
        "Another user may have put it there: look at it and remove it, or use a folder of your own.",
    ),
    "a folder stands": "Check that the path names a file.",
    "unable to open": "Check that its folder exists, can be entered, and that the path names a file.",
}
_SCHEMA_HINTS: Final = {
    "not a database": "Move the file away, or point TELEMETRY_DB_PATH elsewhere.",
    "malformed": "Restore a backup, or move the file away and rebuild it with `agent-telemetry replay`.",
    "unsupported file format": "It was written by a newer SQLite.",
    "no such table": "Its tables are another application's; point TELEMETRY_DB_PATH elsewhere.",
    "no such column": "Its tables are another application's; point TELEMETRY_DB_PATH elsewhere.",
    "has no column": "Its tables are another application's; point TELEMETRY_DB_PATH elsewhere.",
    "does not exist": "Its tables are another application's; point TELEMETRY_DATABASE_URL elsewhere.",
}
_NO_RIGHT: Final = "42501"
_READ_ONLY: Final = "25006"
_TOO_MANY: Final = "53300"
_NO_ROOM: Final = "53100"
_HINTS_BY_STATE: Final = {
    _NO_RIGHT: "Grant its user the rights of docs/postgresql.md: on the tables; to create them, CREATE on the schema.",
    _READ_ONLY: "It is a standby, or was opened for reading; point TELEMETRY_DATABASE_URL to one that is writable.",
    _TOO_MANY: "Run fewer workers, or raise the server's max_connections.",
    _NO_ROOM: "Free some space on the server's disk.",
    **dict.fromkeys(("40P01", "40001", "55P03"), "Another transaction was in the way; trying again helps."),
}
"""Hints by PostgreSQL's error codes, for errors that an operator can fix or that pass by themselves."""
_MISSING_STATES: Final = frozenset({"42P01", "42703", "3F000"})
"""PostgreSQL's codes for a table, a column or a schema that is not there; its texts are in the server's language."""
_TOO_LARGE: Final = "54"
"""PostgreSQL's class of errors for values that are beyond its limits, such as a text too long for an index."""


@contextmanager
def translated(operation: str, where: str) -> Iterator[None]:
    """Raise a StorageError or one of its kinds for what a driver, SQLAlchemy or the file system raises inside.

    `operation` is a gerund ("writing runs to"), `where` the database without credentials.
    Errors of this package pass. OverflowError is SQLite's driver refusing a number.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, OverflowError) as problem:
        raise storage_error(problem, operation, where) from problem


def storage_error(problem: Exception, operation: str, where: str) -> StorageError:
    """Return our error for a foreign one. Its message never holds statements, parameters or passwords."""
    cause = problem.orig if isinstance(problem, StatementError) and problem.orig is not None else problem
    # SQLAlchemy's own text holds the statement and its parameters; the driver's does not.
    text = _first_line(cause)
    message = f"{operation} {where}: {text}"
    kind, hint = _by_state(str(getattr(cause, "sqlstate", None) or "")) or _by_text(text.lower()) or _by_type(problem)
    return kind(message, hint=hint)


def _by_state(state: str) -> _Meaning | None:
    """Return the meaning of PostgreSQL's error code; its texts are in the server's language."""
    if state in _HINTS_BY_STATE:
        return StoreUnavailableError, _HINTS_BY_STATE[state]
    if state in _MISSING_STATES:
        return SchemaError, _SCHEMA_HINTS["does not exist"]
    return (StorageError, "") if state.startswith(_TOO_LARGE) else None


def _by_text(text: str) -> _Meaning | None:
    """Return the meaning of a driver's text; None for an unknown one."""
    for kind, hints in ((StoreUnavailableError, _UNAVAILABLE_HINTS), (SchemaError, _SCHEMA_HINTS)):
        for phrase, hint in hints.items():
            if phrase in text:
                return kind, hint
    return None


def _by_type(problem: Exception) -> _Meaning:
    """Return the meaning of an error by its class alone."""
    if _may_pass(problem):
        return StoreUnavailableError, "Check that the database is there and reachable."
    return StorageError, ""


def _may_pass(problem: Exception) -> bool:
    """Return whether an error without a known text is of a kind that passes by itself."""
    if isinstance(problem, (PoolTimeoutError, OSError)):
        return True
    if isinstance(problem, DBAPIError) and problem.connection_invalidated:
        return True
    return isinstance(problem, (OperationalError, sqlite3.OperationalError))


def _first_line(cause: BaseException) -> str:
    """Return the first line of an error's text, at most 200 characters."""
    # Drivers put the values of a row into the lines after the first.
    lines = (str(cause).strip() or type(cause).__name__).splitlines()
    text = f"{lines[0]} {lines[-1]}" if lines[0].endswith("All failures were:") else lines[0]
    return text if len(text) <= _MAX_CAUSE else text[:_MAX_CAUSE] + "…"


_BEGIN: Final = "sqlite_begin"
_CACHED_STATEMENTS: Final = 256
_CONNECT_TIMEOUT_S: Final = 10


def make_engine(config: TelemetryConfig, *, set_journal_mode: bool = True) -> Engine:
    """Return an engine that writes the configured database.

    `set_journal_mode=False` is for a file that may be another application's, because the
    mode is kept in the file. Raises ConfigurationError for a URL that cannot be used. Opens
    nothing yet.
    """
    url = store_url(config)
    if url.get_backend_name() != "sqlite":
        return _server_engine(url)
    journal_mode = config.db_journal_mode if set_journal_mode else None
    return _sqlite_engine(url, lambda: _open_for_writing(_sqlite_name(url), config, journal_mode), begin="IMMEDIATE")


def make_read_engine(config: TelemetryConfig) -> Engine:
    """Return an engine that cannot write: SQLite's `mode=ro`, read-only transactions elsewhere.

    Never creates a file; a missing one is a StoreUnavailableError at the first connection.
    """
    url = store_url(config)
    if url.get_backend_name() != "sqlite":
        # The server refuses a write then, whatever a query does by mistake.
        return _server_engine(url).execution_options(postgresql_readonly=True)
    return _sqlite_engine(url, lambda: _open_for_reading(_sqlite_name(url), config), begin="DEFERRED")


def store_url(config: TelemetryConfig) -> URL:
    """Return the URL of the configured database. Raises ConfigurationError. May hold a password."""
    if config.database_url is None:
        return URL.create("sqlite", database=str(config.db_path))
    try:
        return make_url(config.database_url)
    except (ArgumentError, ValueError):  # a port that is not a number
        raise ConfigurationError("TELEMETRY_DATABASE_URL is not a database URL") from None


def sqlite_path(engine: Engine) -> Path | None:
    """Return the file of a SQLite database; None for a server and for a database in memory."""
    name = _sqlite_name(engine.url) if engine.dialect.name == "sqlite" else ":memory:"
    return None if name == ":memory:" else Path(name)


def database_name(engine: Engine) -> str:
    """Return the database as a message may show it: a path, or a URL without credentials and options."""
    path = sqlite_path(engine)
    return str(path) if path is not None else engine.url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def writing(engine: Engine, operation: str) -> Iterator[Connection]:
    """Begin a writing transaction: committed on leaving, rolled back on any exception.

    Raises StorageError and its kinds. Blocks for the busy timeout on a locked database.
    """
    with translated(operation, database_name(engine)), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine, operation: str) -> Iterator[Connection]:
    """Yield a consistent view of the database, which blocks no writer's BEGIN. Raises StorageError."""
    # Without it each statement on PostgreSQL sees a newer state, and the figures of one answer contradict each other.
    one_view = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {_BEGIN: "DEFERRED"}
    with (
        translated(operation, database_name(engine)),
        engine.connect().execution_options(**one_view) as connection,
    ):
        yield connection


def _server_engine(url: URL) -> Engine:
    """Return the engine of a database server. Raises ConfigurationError for a driver that is missing or a wrong URL."""
    try:
        engine = create_engine(
            url,
            hide_parameters=True,  # errors are logged, and parameters are what runs hold
            pool_pre_ping=True,  # a server that was restarted costs no failed batch
            connect_args={"connect_timeout": _CONNECT_TIMEOUT_S} if url.get_backend_name() == "postgresql" else {},
        )
    except ImportError as missing:
        raise ConfigurationError(
            f"the driver of {url.drivername} is not installed ({missing.name})",
            hint="pip install 'otel-agent-telemetry[postgres]', and use a postgresql+psycopg:// URL.",
        ) from missing
    except (NoSuchModuleError, ArgumentError):
        raise ConfigurationError(f"TELEMETRY_DATABASE_URL: {url.drivername} is not a known database") from None
    if engine.dialect.name == "postgresql":
        event.listen(engine, "connect", _plan_each_time)
    return engine


def _plan_each_time(connection: Any, _record: Any) -> None:
    """Have PostgreSQL plan every execution anew."""
    # A plan kept from when a table was small reads all of it until the table is analysed.
    with connection.cursor() as cursor:
        cursor.execute("SET plan_cache_mode = force_custom_plan")
    connection.commit()


def _sqlite_engine(url: URL, opener: Callable[[], sqlite3.Connection], *, begin: str) -> Engine:
    """Return the engine of a SQLite file whose transactions begin with the given mode."""
    engine = create_engine(url, creator=opener, hide_parameters=True)

    def begin_transaction(connection: Connection) -> None:
        mode = connection.get_execution_options().get(_BEGIN, begin)
        connection.exec_driver_sql(f"BEGIN {mode}")

    event.listen(engine, "begin", begin_transaction)
    return engine


def _sqlite_name(url: URL) -> str:
    """Return the path in a SQLite URL; `:memory:` without one."""
    return url.database or ":memory:"


def _open_for_writing(name: str, config: TelemetryConfig, journal_mode: str | None) -> sqlite3.Connection:
    """Return a connection that writes, with the configured pragmas; creates a missing file."""
    if name != ":memory:":
        make_database_file(Path(name))
        check_database(Path(name))
    connection = _connect(name, config)
    try:
        # Our tables have no foreign keys; those of older tables may name a key that is not unique any more.
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute(f"PRAGMA synchronous={config.db_synchronous}")
        if journal_mode is not None:
            connection.execute(f"PRAGMA journal_mode={journal_mode}").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _open_for_reading(name: str, config: TelemetryConfig) -> sqlite3.Connection:
    """Return a connection that cannot write. Raises sqlite3.Error for a missing file."""
    if name == ":memory:":
        return _connect(name, config)
    check_database(Path(name))
    # `mode=ro` never creates the file; a plain path would leave an empty one behind.
    return _connect(f"{Path(name).absolute().as_uri()}?mode=ro", config, uri=True)


def _connect(name: str, config: TelemetryConfig, *, uri: bool = False) -> sqlite3.Connection:
    """Return a connection in the driver's autocommit: BEGIN is ours, COMMIT and ROLLBACK are SQLAlchemy's."""
    return sqlite3.connect(
        name,
        timeout=config.db_busy_timeout_ms / 1000,
        isolation_level=None,
        # The pool hands a connection to one thread after another, never to two at once.
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
        uri=uri,
    )
