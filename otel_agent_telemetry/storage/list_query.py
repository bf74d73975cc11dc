"""Describe what the list of runs in a browser shows: its filters, its order, its place. `ListQuery` and its conditions.

It is a `RunQuery` with filters that the API does not have. What an index can serve, `narrowest` chooses; every
condition is also tested on the rows that `run_list` reads, so that no choice changes what is found. Costs are no
condition in SQL, because most are worked out when a run is read (`pricing`).
"""

from __future__ import annotations

from dataclasses import Field, dataclass, fields
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, or_, select

from otel_agent_telemetry import status as st
from otel_agent_telemetry.storage.commit_rows import made_commit
from otel_agent_telemetry.storage.counts import count_by
from otel_agent_telemetry.storage.run_filters import RunQuery, conditions_of, has_status, is_plumbing
from otel_agent_telemetry.storage.tables import agent_runs, run_rollups

Sort = Literal["started", "duration", "tokens", "cost"]
SORTS: Final[tuple[Sort, ...]] = ("started", "duration", "tokens", "cost")
_SEARCHED: Final = ("run_id", "input_summary", "output_summary", "error_summary", "error_details")
_COUNTED_BY: Final = {"agent_name", "job_type", "status", "plumbing"}
_SHAPE: Final = {"limit", "cursor", "priced", "ascending"}
"""Fields that decide which page of the list is shown, and not which runs are on it."""
_HAD_ERRORS: Final = '"had_errors":true'
_runs: Final = agent_runs.c
Conditions = list[ColumnElement[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery(RunQuery):
    """Which runs, and in which order. None is "any".

    `text` stands in a run's id, summaries or errors, whatever its case; `commit` begins the hash of a commit
    that the run made. `created_from` is inclusive, `created_before` exclusive; durations in ms and costs in US
    dollars are inclusive. `with_errors`: a step or a run inside failed. `ascending` False is the newest,
    longest or most first. Runs that have not ended have no place in the order of durations, and those whose
    cost is not known none in that of costs.
    """

    commit: str | None = None
    text: str | None = None
    created_from: str | None = None
    duration_from_ms: int | None = None
    duration_to_ms: int | None = None
    cost_from: float | None = None
    cost_to: float | None = None
    with_errors: bool = False
    sort: Sort = "started"
    ascending: bool = False

    @property
    def asks_cost(self) -> bool:
        """Return whether a run's cost decides if or where it is listed."""
        return self.sort == "cost" or self.cost_from is not None or self.cost_to is not None

    @property
    def is_counted(self) -> bool:
        """Return whether nothing is asked but what the kept counts know: agent, job type, status, plumbing."""
        asked = {field.name for field in fields(self) if not _is_default(field, getattr(self, field.name))}
        return asked <= _COUNTED_BY | _SHAPE


def _is_default(field: Field[Any], value: object) -> bool:
    """Return whether a field has its default; 0 is a bound, and not the same as none."""
    return value is field.default or (value == field.default and type(value) is type(field.default))


def list_conditions(connection: Connection, query: ListQuery) -> Conditions:
    """Return what a run must meet, except for its cost."""
    found = [*conditions_of(connection, query), *in_time(query)]
    if query.commit is not None:
        found.append(made_commit(connection, [query.commit]))
    if query.text is not None:
        found.append(_has_text(connection, query.text))
    if query.duration_from_ms is not None:
        found.append(_runs.duration_ms >= query.duration_from_ms)
    if query.duration_to_ms is not None:
        found.append(_runs.duration_ms <= query.duration_to_ms)
    if query.sort == "duration" or query.duration_from_ms is not None or query.duration_to_ms is not None:
        # The duration of a run that goes on is 0 in its row: it would be the shortest of all.
        found.append(_runs.status != st.RUNNING)
    if query.with_errors:
        found.append(_had_errors())
    if query.asks_cost:
        # Only these can have a cost; the price list is not asked about the others.
        found.append(or_(_runs.model_calls > 0, _runs.cost_usd.is_not(None), _runs.model.is_not(None)))
    return found


def in_time(query: ListQuery) -> Conditions:
    """Return the conditions on the time of creation that the walk through the runs begins and ends with."""
    bounds = ((_runs.created_at.__ge__, query.created_from), (_runs.created_at.__lt__, query.created_before))
    return [compare(value) for compare, value in bounds if value is not None]


def narrowest(connection: Connection, query: ListQuery) -> Conditions:
    """Return the condition that an index in order of creation serves and that the fewest runs meet; or none."""
    if query.session_id is not None:
        return [_runs.session_id == query.session_id]
    if query.plumbing:
        return [is_plumbing()]
    choices: list[tuple[int, ColumnElement[bool]]] = []
    if query.agent_name is not None:
        number = count_by(connection, "agent_name").get(query.agent_name, 0)
        choices.append((number, _runs.agent_name == query.agent_name))
    if query.status not in (None, st.SUCCESS):
        number = count_by(connection, "status").get(str(query.status), 0)
        choices.append((number, has_status(str(query.status))))
    # One condition leads and the others are tested row by row: neither database is good at joining two indexes in an
    # order.
    return [min(choices, key=lambda choice: choice[0])[1]] if choices else []


def _has_text(connection: Connection, text: str) -> ColumnElement[bool]:
    """Return the condition that a text stands in one of the searched columns."""
    if connection.dialect.name == "sqlite":  # its LIKE ignores the case of ASCII letters
        return or_(*(_runs[name].contains(text, autoescape=True) for name in _SEARCHED))
    return or_(*(_runs[name].icontains(text, autoescape=True) for name in _SEARCHED))


def _had_errors() -> ColumnElement[bool]:
    """Return the condition that a step of a run failed, by the run's own figures or by those of its spans."""
    by_spans = select(run_rollups.c.event_id).where(
        run_rollups.c.event_id == _runs.event_id, run_rollups.c.metrics_json.contains(_HAD_ERRORS)
    )
    return or_(_runs.metrics_json.contains(_HAD_ERRORS), by_spans.exists())
