"""How many runs there are of each kind, without reading the runs.

Two small tables are kept beside `agent_runs`, in the same transactions: `run_counts`
(agent_name, job_type, status → runs) and `run_hours` (hour of `created_at` → runs), so that
the service's figures cost the same at a million runs as at a thousand.

On SQLite, which has one writer, there is one row for each kind and hour: writers add what
they changed, and a trigger takes away what is deleted, whoever deletes it. On PostgreSQL
rows that every writer touches would make writers wait for each other, so triggers add lines
of +1 and -1 for what really became of each row, and a kind's number is the sum of its lines.
`counts_packing` keeps those few. `counts_check` compares both
with the runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Dialect, Select, Table, func, literal_column, select

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.storage.counts_packing import pack_now_and_then
from otel_agent_telemetry.storage.rows import Row
from otel_agent_telemetry.storage.run_statements import Statement, compiled, insert_into
from otel_agent_telemetry.storage.tables import agent_runs, run_counts, run_hours

_HOUR: Final = len("2026-01-31T23")
_END_OF_HOUR: Final = ":59:59.999999+00:00"
_CREATED_AT: Final = COLUMNS.index("created_at")
_KIND: Final = ("agent_name", "job_type", "status")
_kind_of: Final = itemgetter(*map(COLUMNS.index, _KIND))


def add_to_counts(connection: Connection, changes: Sequence[tuple[Row | None, Row]]) -> None:
    """Count runs that were written: each as the row before, None when there was none, and the row now.

    On PostgreSQL the triggers have counted them; here the lines are packed now and then.
    """
    if connection.dialect.name != "sqlite":
        pack_now_and_then(connection, len(changes))
        return
    kinds: Counter[Row] = Counter()
    hours: Counter[str] = Counter()
    for before, now in changes:
        kinds[_kind_of(now)] += 1
        hours[now[_CREATED_AT][:_HOUR]] += 1
        if before is not None:
            kinds[_kind_of(before)] -= 1
            hours[before[_CREATED_AT][:_HOUR]] -= 1
    _add(run_counts, connection.dialect).execute(
        connection, (*_KIND, "runs"), [(*kind, number) for kind, number in kinds.items() if number]
    )
    _add(run_hours, connection.dialect).execute(
        connection, ("hour", "runs"), [item for item in hours.items() if item[1]]
    )


@lru_cache(maxsize=8)
def _add(table: Table, dialect: Dialect) -> Statement:
    names = tuple(column.name for column in table.c)
    statement = insert_into(table, dialect)
    total = table.c.runs + statement.excluded.runs
    keys = [column.name for column in table.primary_key]
    return compiled(statement.on_conflict_do_update(index_elements=keys, set_={"runs": total}), dialect, names)


def agent_runs_by(table: Table) -> Select[Any]:
    """What a table of counts must hold, counted from the runs: its columns, a row for each key."""
    keys = [agent_runs.c[name] for name in _KIND] if table is run_counts else [_hour_of(agent_runs.c.created_at)]
    return select(*keys, func.count().label("runs")).group_by(*keys)


def _hour_of(created_at: ColumnElement[str]) -> ColumnElement[str]:
    return func.substr(created_at, literal_column("1"), literal_column(str(_HOUR))).label("hour")


def count_by(connection: Connection, name: str) -> dict[str, int]:
    """Value → runs, for `agent_name`, `job_type` or `status`; costs the same at any number of runs."""
    key = run_counts.c[name]
    rows = connection.execute(select(key, func.sum(run_counts.c.runs)).group_by(key).order_by(key))
    return {str(word): int(runs) for word, runs in rows if runs > 0}


def count_since(connection: Connection, since: str) -> int:
    """Runs created after an instant: whole hours from their counts, the first one from the runs."""
    hour = since[:_HOUR]
    created_at = agent_runs.c.created_at
    whole = select(func.coalesce(func.sum(run_hours.c.runs), 0)).where(run_hours.c.hour > hour)
    first = select(func.count()).where(created_at > since, created_at <= hour + _END_OF_HOUR)
    return int(connection.execute(whole).scalar_one()) + int(connection.execute(first).scalar_one())


def count_kinds(connection: Connection) -> dict[tuple[str, str, str], int]:
    """(agent_name, job_type, status) → runs; costs the same at any number of runs."""
    keys = [run_counts.c[name] for name in _KIND]
    rows = connection.execute(select(*keys, func.sum(run_counts.c.runs)).group_by(*keys))
    return {(row[0], row[1], row[2]): int(row[3]) for row in rows if row[3] > 0}
