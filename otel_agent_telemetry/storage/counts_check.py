"""Whether the counts that are kept are those of the runs, and putting them right.

Triggers and writers keep them exact; what they cannot see is `TRUNCATE`, a table restored by
itself, or a trigger switched off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
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

from otel_agent_telemetry.storage.counts import agent_runs_by
from otel_agent_telemetry.storage.tables import run_counts, run_hours

_KEPT: Final = (run_counts, run_hours)


@dataclass(frozen=True, slots=True)
class CountDifference:
    """A number that is not that of the runs. `key` is a kind (agent_name, job_type, status) or an hour."""

    table: str
    key: tuple[str, ...]
    kept: int
    actual: int


def check_counts(connection: Connection) -> list[CountDifference]:
    """Every difference, in order of key. Reads all runs; exact while others write."""
    return [difference for table in _KEPT for difference in _differences(connection, table)]


def repair_counts(connection: Connection) -> list[CountDifference]:
    """Put the counts right within the connection's transaction, and say what was wrong.

    Needs a writing transaction. On PostgreSQL writers wait until it ends; readers do not.
    """
    if connection.dialect.name == "postgresql":
        # Runs first, in the order in which a writer takes them; the counts too, or a packing would slip in.
        connection.execute(text("LOCK TABLE agent_runs, run_counts, run_hours IN SHARE ROW EXCLUSIVE MODE"))
    found = check_counts(connection)
    for table in {difference.table for difference in found}:
        _count_anew(connection, run_counts.metadata.tables[table])
    return found


def _differences(connection: Connection, table: Table) -> list[CountDifference]:
    """In one statement, so that both sides are of one instant."""
    keys = _keys(table)
    zero: ColumnElement[int] = literal_column("0")
    kept = select(*keys, table.c.runs.label("kept"), zero.label("actual"))
    actual = agent_runs_by(table).subquery()
    counted = select(*(actual.c[key.name] for key in keys), zero, actual.c.runs)
    both = union_all(kept, counted).subquery()
    key = [both.c[column.name] for column in keys]
    sums = (func.sum(both.c.kept), func.sum(both.c.actual))
    chosen: Select[Any] = select(*key, *sums).group_by(*key).having(sums[0] != sums[1]).order_by(*key)
    return [
        CountDifference(table.name, tuple(row[:-2]), int(row[-2]), int(row[-1])) for row in connection.execute(chosen)
    ]


def _count_anew(connection: Connection, table: Table) -> None:
    connection.execute(delete(table))
    names = [column.name for column in table.c]
    connection.execute(insert(table).from_select(names, agent_runs_by(table)))


def _keys(table: Table) -> list[Any]:
    return [column for column in table.c if column.name != "runs"]
