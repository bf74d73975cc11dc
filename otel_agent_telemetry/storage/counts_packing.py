"""Keeping the lines few that PostgreSQL's triggers add to the counts: packing and sweeping.

A connection that has written some thousands of runs replaces the lines that it sees by their
sums, in its own transaction, so that no way of writing leaves them to pile up. Deleted lines
stay in the table's pages, and readers step over them, until a VACUUM has swept it; the
server's own comes by once a minute, which is long for who writes thousands of runs a second.
Nothing here does anything on SQLite.
"""

from __future__ import annotations

import contextlib
from typing import Final

from sqlalchemy import Connection, Engine, text

from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.storage.engine import database_name
from otel_agent_telemetry.storage.errors_of import translated
from otel_agent_telemetry.storage.tables import run_counts, run_hours

RUNS_BETWEEN_PACKINGS: Final = 2000
_PACK_LOCK: Final = 0x6F61745F7061636B
_UNPACKED: Final = "agent_telemetry_runs_since_packing"
_UNSWEPT: Final = "agent_telemetry_packed"


def pack_counts(connection: Connection) -> None:
    """Replace the lines by their sums, within the connection's transaction.

    Readers see the lines or their sums, never both. Of several that would pack at once one
    does, the others go on at once. A line that is added meanwhile stays a line.
    """
    if connection.dialect.name != "postgresql":
        return
    if not connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _PACK_LOCK}).scalar_one():
        return
    for table in (run_counts, run_hours):
        keys = ", ".join(column.name for column in table.c if column.name != "runs")
        connection.exec_driver_sql(
            f"WITH line AS (DELETE FROM {table.name} RETURNING {keys}, runs)"  # noqa: S608 - names of our tables
            f" INSERT INTO {table.name} ({keys}, runs)"
            f" SELECT {keys}, sum(runs) FROM line GROUP BY {keys} HAVING sum(runs) > 0"
        )
    connection.info[_UNSWEPT] = True


def pack_now_and_then(connection: Connection, written: int) -> None:
    """Pack when this connection has written enough runs since it last did; `written` are the latest."""
    unpacked = int(connection.info.get(_UNPACKED, 0)) + written
    if unpacked >= RUNS_BETWEEN_PACKINGS:
        pack_counts(connection)
        unpacked = 0
    connection.info[_UNPACKED] = unpacked


def wants_sweeping(connection: Connection) -> bool:
    """Whether this connection has packed since it was last asked."""
    return bool(connection.info.pop(_UNSWEPT, False))


def sweep_counts(engine: Engine) -> None:
    """Make room of what packing deleted, in a transaction of its own, after that of the packing.

    Never raises and waits for nobody's lock: what is left, the server's own VACUUM takes.
    """
    quick = "VACUUM (SKIP_LOCKED, TRUNCATE false, INDEX_CLEANUP off)"
    with (
        contextlib.suppress(StorageError),
        translated("sweeping", database_name(engine)),
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
    ):
        connection.exec_driver_sql(f"{quick} {run_counts.name}, {run_hours.name}")
