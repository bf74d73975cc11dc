"""Translate errors of drivers, SQLAlchemy and the file system into those of this package, once, at the boundary.

`StoreUnavailableError`: locked, full, read-only, unreachable; trying later may help.
`SchemaError`: not a database, damaged, or tables of another application.
`StorageError`: the database refused a value; trying the same again does not help.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from otel_agent_telemetry.errors import SchemaError, StorageError, StoreUnavailableError

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
    for kind, hints in ((StoreUnavailableError, _UNAVAILABLE_HINTS), (SchemaError, _SCHEMA_HINTS)):
        for phrase, hint in hints.items():
            if phrase in text:
                return kind, hint
    return None


def _by_type(problem: Exception) -> _Meaning:
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
