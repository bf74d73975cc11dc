"""How many runs there are of each kind, without reading the runs.

On SQLite two small tables are kept beside `agent_runs`, in the same transactions: `run_counts`
(agent_name, job_type, status → runs) and `run_hours` (hour of `created_at` → runs). Writers
add what they changed; a trigger takes away what is deleted, whoever deletes it. So the
service's figures cost the same at a million runs as at a thousand. PostgreSQL counts the
runs themselves: rows that every writer touches would make its writers wait for each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from operator import itemgetter
from typing import Final

from sqlalchemy import ColumnElement, Connection, Dialect, Table, func, select

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.storage.rows import Row
from otel_agent_telemetry.storage.run_statements import Statement, compiled, insert_into
from otel_agent_telemetry.storage.tables import agent_runs, run_counts, run_hours

_HOUR: Final = len("2026-01-31T23")
_CREATED_AT: Final = COLUMNS.index("created_at")
_KIND: Final = ("agent_name", "job_type", "status")
_kind_of: Final = itemgetter(*map(COLUMNS.index, _KIND))


def add_to_counts(connection: Connection, changes: Iterable[tuple[Row | None, Row]]) -> None:
    """Count runs that were written: each as the row before, None when there was none, and the row now."""
    if connection.dialect.name != "sqlite":
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


def count_by(connection: Connection, name: str) -> dict[str, int]:
    """Value → runs, for `agent_name`, `job_type` or `status`; cheap on SQLite at any size."""
    kept = connection.dialect.name == "sqlite"
    key = run_counts.c[name] if kept else agent_runs.c[name]
    number: ColumnElement[int] = func.sum(run_counts.c.runs) if kept else func.count()
    rows = connection.execute(select(key, number).group_by(key).order_by(key))
    return {str(word): int(runs) for word, runs in rows if runs}


def count_since(connection: Connection, since: str) -> int:
    """Runs created after an instant: whole hours from their counts, the first one from the runs."""
    after = agent_runs.c.created_at > since
    if connection.dialect.name != "sqlite":
        return int(connection.execute(select(func.count()).where(after)).scalar_one())
    hour = since[:_HOUR]
    whole = select(func.coalesce(func.sum(run_hours.c.runs), 0)).where(run_hours.c.hour > hour)
    first = select(func.count()).where(after, agent_runs.c.created_at < hour + ":\uffff")
    return int(connection.execute(whole).scalar_one()) + int(connection.execute(first).scalar_one())
