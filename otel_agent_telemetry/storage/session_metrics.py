"""What metrics of coding agents count of a session: tokens, cost, commits, lines.

Metrics are sums of what events and spans have too. So figures of use are read only for sessions
of which no run has any; what only metrics have (commits, pull requests, lines, active time) always.

A value sent as the change since the last time (delta) is a row of its own, so a repetition changes
nothing. Of a cumulative value the last one since the same start is a row, so a sum over the rows
is the sum of the differences, and a restart begins anew.

Owns the table `session_metrics`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Final

from sqlalchemy import ColumnElement, Connection, Dialect, and_, delete, exists, func, or_, select

from otel_agent_telemetry.storage.rows import storable_texts
from otel_agent_telemetry.storage.statements import Statement, compile_statement, insert_into
from otel_agent_telemetry.storage.tables import agent_runs, session_metrics

USED: Final = frozenset(
    {"input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens"}
    | {"reasoning_output_tokens", "cost_usd", "model_calls", "tool_calls"}
)
"""Figures that runs have too: metrics are asked for them only where no run of the session has any."""
CUMULATIVE: Final = 0
"""`point_ns` of the one row that a cumulative value has for each start."""
_metrics: Final = session_metrics.c
_runs: Final = agent_runs.c
_COLUMNS: Final = tuple(column.name for column in session_metrics.c)
FIGURE_KEY: Final = ("series", "start_ns", "point_ns")
"""The columns that identify a row, in any database."""


@dataclass(frozen=True, slots=True)
class SessionFigure:
    """One data point of a metric: what it counted, in the order of the table's columns.

    `time` is our text of an instant; `session_id` and `model` are "" where the sender does not name one.
    """

    series: str
    start_ns: int
    point_ns: int
    time: str
    sender: str
    session_id: str
    figure: str
    model: str
    value: float


def write_figures(connection: Connection, figures: Sequence[SessionFigure]) -> None:
    """Store data points. A repetition changes nothing, nor does an older point of a cumulative value.

    Within the connection's transaction. Raises the driver's errors, see `engine.translated`.
    """
    latest: dict[tuple[str, int, int], SessionFigure] = {}
    for figure in figures:
        key = (figure.series, figure.start_ns, figure.point_ns)
        # An upsert must not touch one row twice, which PostgreSQL refuses.
        if key not in latest or latest[key].time < figure.time:
            latest[key] = figure
    # In one order: two writers never deadlock.
    rows = [storable_texts(astuple(latest[key])) for key in sorted(latest)]
    _upsert(connection.dialect).execute(connection, _COLUMNS, rows)


@lru_cache(maxsize=8)
def _upsert(dialect: Dialect) -> Statement:
    """Return the statement that stores a data point where it is newer than the one that is there."""
    statement = insert_into(session_metrics, dialect)
    given = statement.excluded
    upsert = statement.on_conflict_do_update(
        index_elements=FIGURE_KEY, set_={"time": given.time, "value": given.value}, where=_metrics.time < given.time
    )
    return compile_statement(upsert, dialect, _COLUMNS)


@dataclass(frozen=True, slots=True)
class SessionSums:
    """What metrics counted of one session: figure → sum. `session_id` is "" where the sender names none."""

    sender: str
    session_id: str
    figures: Mapping[str, float]


def figures_of_session(connection: Connection, session_id: str) -> dict[str, float]:
    """Return what metrics counted of a session: figure → sum, without what its runs have themselves."""
    sums = _sums(connection, _metrics.session_id == session_id)
    return dict(sums[0].figures) if sums else {}


def figures_between(connection: Connection, *, since: str = "", until: str = "9999") -> list[SessionSums]:
    """Return what metrics counted in a time, our texts of instants; for each session that it is known of.

    Figures that runs have too are left out for sessions whose runs have any (see `USED`).
    """
    return _sums(connection, _metrics.time >= since, _metrics.time < until)


def delete_old_figures(connection: Connection, cutoff: str) -> None:
    """Delete the data points that are older than a cut-off, our text of an instant."""
    connection.execute(delete(session_metrics).where(_metrics.time < cutoff))


def _sums(connection: Connection, *which: ColumnElement[bool]) -> list[SessionSums]:
    """Return the sums of the data points that meet the conditions, by sender and session."""
    keys = (_metrics.sender, _metrics.session_id, _metrics.figure)
    counts = or_(_metrics.figure.not_in(sorted(USED)), ~_has_runs_with_use())
    selected = select(*keys, func.sum(_metrics.value)).where(*which, counts).group_by(*keys).order_by(*keys)
    found: defaultdict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for sender, session_id, figure, value in connection.execute(selected):
        found[sender, session_id][figure] = float(value)
    return [SessionSums(sender, session_id, figures) for (sender, session_id), figures in found.items()]


def _has_runs_with_use() -> ColumnElement[bool]:
    """Return the condition that a run of the session, or of a sender that names no session, has used something."""
    uses = or_(_runs.input_tokens > 0, _runs.output_tokens > 0, _runs.model_calls > 0)
    of_session = exists().where(_runs.session_id == _metrics.session_id, uses)
    of_sender = exists().where(_runs.service_name == _metrics.sender, uses)
    # Two conditions and not one: with an OR inside, no index would serve the sessions, and all runs would be read.
    return or_(of_session, and_(_metrics.session_id == "", of_sender))
