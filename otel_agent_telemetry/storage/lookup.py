"""Small questions about what is stored: runs by what a person typed of an id, values, associations. Reads only."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, select

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.storage.rows import clean_text, record_of
from otel_agent_telemetry.storage.run_statements import by_code_point
from otel_agent_telemetry.storage.tables import agent_runs, commits

_LAST: Final = "\U0010ffff"
_runs: Final = agent_runs.c


def runs_named(connection: Connection, name: str, *, limit: int) -> list[RunRecord]:
    """The runs whose `run_id` or `event_id` is exactly this, newest first, at most `limit`."""
    wanted = clean_text(name)
    return _read(connection, (_runs.event_id == wanted) | (_runs.run_id == wanted), limit)


def runs_beginning(connection: Connection, prefix: str, *, limit: int) -> list[RunRecord]:
    """The runs whose `run_id` or `event_id` begins so, newest first, at most `limit`. Case counts."""
    if not prefix:
        return []
    wanted = clean_text(prefix)
    begins = [_begins(connection, column, wanted) for column in (_runs.event_id, _runs.run_id)]
    return _read(connection, begins[0] | begins[1], limit)


def _begins(connection: Connection, column: ColumnElement[Any], prefix: str) -> ColumnElement[bool]:
    """A range, which an index serves, where LIKE would read every row."""
    if connection.dialect.name != "sqlite":
        column = by_code_point(column, connection.dialect)
    return column.between(prefix, prefix + _LAST)


def _read(connection: Connection, condition: ColumnElement[bool], limit: int) -> list[RunRecord]:
    chosen = select(*(_runs[name] for name in COLUMNS)).where(condition)
    newest_first = chosen.order_by(_runs.created_at.desc(), _runs.id.desc()).limit(limit)
    return [record_of(tuple(row)) for row in connection.execute(newest_first)]


def values_of(connection: Connection, column: str, *, limit: int) -> list[str]:
    """The distinct values of a column of a run, in order, at most `limit`. Reads every run."""
    chosen = select(_runs[column]).where(_runs[column].is_not(None)).distinct().order_by(_runs[column]).limit(limit)
    return [str(value) for value in connection.execute(chosen).scalars()]


def last_association(connection: Connection, run_id: str) -> str | None:
    """When the latest commit association of a run was told, None when it has none."""
    latest = select(func.max(commits.c.associated_at)).where(commits.c.run_id == clean_text(run_id))
    return connection.execute(latest).scalar()
