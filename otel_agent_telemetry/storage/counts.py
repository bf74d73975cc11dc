"""How many runs there are of each kind, without reading the runs.

Two small tables are kept beside `agent_runs`, in the same transactions: `run_counts`
(agent_name, job_type, status → runs) and `run_hours` (hour of `created_at` → runs), so that
the service's numbers cost the same at a million runs as at a thousand.

On SQLite, which has one writer, there is one row for each kind and hour: writers add what
they changed, and a trigger subtracts what any program deletes. On PostgreSQL a row
that every writer touches would make writers wait for each other, so triggers add lines of +1
and -1 for what really became of each row, and a kind's number is the sum of its lines.

A connection that has written some thousands of runs replaces the lines that it sees by their
sums (*packs* them), in its own transaction, so that no way of writing lets them pile up.
Deleted lines stay in the table's pages, and readers step over them, until a VACUUM; the
server's own runs once a minute, which is long where thousands of runs a second are written.

Triggers and writers keep the counts exact. What they cannot see is `TRUNCATE`, a table
restored by itself, or a trigger switched off; `check_counts` finds that, `repair_counts`
corrects it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Select,
    Table,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    union_all,
)

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.storage.engine import database_name, translated
from otel_agent_telemetry.storage.rows import Row
from otel_agent_telemetry.storage.statements import Statement, compile_statement, insert_into
from otel_agent_telemetry.storage.tables import agent_runs, run_counts, run_hours

_HOUR: Final = len("2026-01-31T23")
_END_OF_HOUR: Final = ":59:59.999999+00:00"
_CREATED_AT: Final = COLUMNS.index("created_at")
_KIND: Final = ("agent_name", "job_type", "status")
_kind_of: Final = itemgetter(*map(COLUMNS.index, _KIND))

RUNS_BETWEEN_PACKINGS: Final = 2000
# Key of an advisory lock of PostgreSQL: "oat_pack" in ASCII, so that it can be recognised in `pg_locks`.
_PACK_LOCK: Final = 0x6F61745F7061636B
_UNPACKED: Final = "agent_telemetry_runs_since_packing"
"""Key in a connection's `info`: how many runs it has written since it last packed."""
_NEEDS_VACUUM: Final = "agent_telemetry_packed"
"""Key in a connection's `info`: it has packed since `needs_vacuum` was last called."""


def count_by(connection: Connection, name: str) -> dict[str, int]:
    """Return value → runs, for `agent_name`, `job_type` or `status`."""
    key = run_counts.c[name]
    rows = connection.execute(select(key, func.sum(run_counts.c.runs)).group_by(key).order_by(key))
    return {str(value): int(runs) for value, runs in rows if runs > 0}


def count_since(connection: Connection, since: str) -> int:
    """Return the runs created after an instant, as our text: whole hours from their counts, the first from the runs.

    Reads the runs of one hour at most, whatever `since` is.
    """
    # Times are texts of one form, so a text is before another as its instant is.
    hour = since[:_HOUR]
    created_at = agent_runs.c.created_at
    whole = select(func.coalesce(func.sum(run_hours.c.runs), 0)).where(run_hours.c.hour > hour)
    first = select(func.count()).where(created_at > since, created_at <= hour + _END_OF_HOUR)
    return int(connection.execute(whole).scalar_one()) + int(connection.execute(first).scalar_one())


def count_kinds(connection: Connection) -> dict[tuple[str, str, str], int]:
    """Return (agent_name, job_type, status) → runs."""
    keys = [run_counts.c[name] for name in _KIND]
    rows = connection.execute(select(*keys, func.sum(run_counts.c.runs)).group_by(*keys))
    return {(row[0], row[1], row[2]): int(row[3]) for row in rows if row[3] > 0}


def add_to_counts(connection: Connection, changes: Sequence[tuple[Row | None, Row]]) -> None:
    """Count runs that were written: each as the row before, None when there was none, and the row now.

    On PostgreSQL the triggers have counted them already; there only the packing is done.
    """
    if connection.dialect.name != "sqlite":
        pack_when_due(connection, len(changes))
        return
    kinds: Counter[Row] = Counter()
    hours: Counter[str] = Counter()
    for before, now in changes:
        kinds[_kind_of(now)] += 1
        hours[now[_CREATED_AT][:_HOUR]] += 1
        if before is not None:
            kinds[_kind_of(before)] -= 1
            hours[before[_CREATED_AT][:_HOUR]] -= 1
    _add_runs(run_counts, connection.dialect).execute(
        connection, (*_KIND, "runs"), [(*kind, number) for kind, number in kinds.items() if number]
    )
    _add_runs(run_hours, connection.dialect).execute(
        connection, ("hour", "runs"), [item for item in hours.items() if item[1]]
    )


@lru_cache(maxsize=8)
def _add_runs(table: Table, dialect: Dialect) -> Statement:
    """Return the statement that adds numbers of runs to stored counts."""
    names = tuple(column.name for column in table.c)
    statement = insert_into(table, dialect)
    total = table.c.runs + statement.excluded.runs
    keys = [column.name for column in table.primary_key]
    return compile_statement(statement.on_conflict_do_update(index_elements=keys, set_={"runs": total}), dialect, names)


def pack_counts(connection: Connection) -> None:
    """Replace the lines by their sums, within the connection's transaction. PostgreSQL only.

    Readers see the lines or their sums, never both. Of several writers that would pack at the
    same time one does, and the others go on at once. A line added meanwhile stays a line.
    """
    if connection.dialect.name != "postgresql":
        return
    # Never waited for: another writer that packs does the same work.
    if not connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _PACK_LOCK}).scalar_one():
        return
    for table in (run_counts, run_hours):
        keys = ", ".join(column.name for column in table.c if column.name != "runs")
        connection.exec_driver_sql(
            f"WITH line AS (DELETE FROM {table.name} RETURNING {keys}, runs)"  # noqa: S608 - names of our tables
            f" INSERT INTO {table.name} ({keys}, runs)"
            f" SELECT {keys}, sum(runs) FROM line GROUP BY {keys} HAVING sum(runs) > 0"
        )
    connection.info[_NEEDS_VACUUM] = True


def pack_when_due(connection: Connection, written: int) -> None:
    """Pack when this connection has written enough runs since it last did; `written` are the latest."""
    # Kept with the connection, so that each writer packs for itself, however transactions are cut.
    unpacked = int(connection.info.get(_UNPACKED, 0)) + written
    if unpacked >= RUNS_BETWEEN_PACKINGS:
        pack_counts(connection)
        unpacked = 0
    connection.info[_UNPACKED] = unpacked


def needs_vacuum(connection: Connection) -> bool:
    """Return whether this connection has packed since the last call."""
    return bool(connection.info.pop(_NEEDS_VACUUM, False))


def vacuum_counts(engine: Engine) -> None:
    """Free what packing deleted, in a transaction of its own, after that of the packing. PostgreSQL only.

    Never raises and waits for no lock: what is left, the server's own VACUUM takes.
    """
    # SKIP_LOCKED and no truncation: neither waits for a lock that a writer holds.
    quick = "VACUUM (SKIP_LOCKED, TRUNCATE false, INDEX_CLEANUP off)"
    with (
        contextlib.suppress(StorageError),
        translated("vacuuming", database_name(engine)),
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
    ):
        connection.exec_driver_sql(f"{quick} {run_counts.name}, {run_hours.name}")


@dataclass(frozen=True, slots=True)
class CountDifference:
    """A stored count that differs from the runs. `key` is a kind (agent_name, job_type, status) or an hour."""

    table: str
    key: tuple[str, ...]
    kept: int
    actual: int


def check_counts(connection: Connection) -> list[CountDifference]:
    """Return every difference, in order of key. Reads all runs; exact while others write."""
    return [difference for table in (run_counts, run_hours) for difference in _differences(connection, table)]


def repair_counts(connection: Connection) -> list[CountDifference]:
    """Correct the counts within the connection's writing transaction; return what was wrong.

    On PostgreSQL writers wait until the transaction ends; readers do not.
    """
    if connection.dialect.name == "postgresql":
        # Runs first, in the order in which a writer takes them; the counts too, or a packing would slip in.
        connection.execute(text("LOCK TABLE agent_runs, run_counts, run_hours IN SHARE ROW EXCLUSIVE MODE"))
    differences = check_counts(connection)
    for name in {difference.table for difference in differences}:
        _recount(connection, run_counts.metadata.tables[name])
    return differences


def _differences(connection: Connection, table: Table) -> list[CountDifference]:
    """Return the counts of one table that differ from the runs, in the order of their keys."""
    # In one statement, so that both sides are of one instant.
    keys = [column for column in table.c if column.name != "runs"]
    zero: ColumnElement[int] = literal_column("0")
    kept = select(*keys, table.c.runs.label("kept"), zero.label("actual"))
    actual = counted_runs(table).subquery()
    counted = select(*(actual.c[key.name] for key in keys), zero, actual.c.runs)
    both = union_all(kept, counted).subquery()
    key = [both.c[column.name] for column in keys]
    sums = (func.sum(both.c.kept), func.sum(both.c.actual))
    selected: Select[Any] = select(*key, *sums).group_by(*key).having(sums[0] != sums[1]).order_by(*key)
    return [
        CountDifference(table.name, tuple(row[:-2]), int(row[-2]), int(row[-1])) for row in connection.execute(selected)
    ]


def _recount(connection: Connection, table: Table) -> None:
    """Replace the counts of one table by those of the runs."""
    # In the caller's transaction, so that no reader ever sees the counts empty.
    connection.execute(delete(table))
    names = [column.name for column in table.c]
    connection.execute(insert(table).from_select(names, counted_runs(table)))


def counted_runs(table: Table) -> Select[Any]:
    """Return what a table of counts must hold, counted from the runs: its columns, a row for each key."""
    keys = [agent_runs.c[name] for name in _KIND] if table is run_counts else [_hour_of(agent_runs.c.created_at)]
    return select(*keys, func.count().label("runs")).group_by(*keys)


def _hour_of(created_at: ColumnElement[str]) -> ColumnElement[str]:
    """Return the hour of a creation time, which is the beginning of its text."""
    return func.substr(created_at, literal_column("1"), literal_column(str(_HOUR))).label("hour")
