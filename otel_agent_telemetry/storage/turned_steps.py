"""Steps that turned into runs while they were open: what is below them belongs to those runs.

The last line of such a step names the run (`wire.BECAME_RUN`). The step stays stored under its
run, marked as a run and with the run id of the new one, and is no step of either. What the lines
before, and late ones after it, gave to the step's run is handed over as soon as the new run's
state is stored. `run_keys` keeps which runs have such steps, so that others cost nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, select, update

from otel_agent_telemetry.storage.statements import insert_into, rows_with
from otel_agent_telemetry.storage.steps import IS_RUN, SpanRow
from otel_agent_telemetry.storage.tables import agent_runs, run_events, run_keys, run_spans

_spans: Final = run_spans.c
_events: Final = run_events.c
_PREFIX: Final = "turned:"


def note_turned(connection: Connection, steps: Sequence[SpanRow]) -> None:
    """Mark stored steps as having turned into the runs that their lines name."""
    if not steps:
        return
    keys = [{"run_key": _PREFIX + step.span.event_id, "event_id": step.span.event_id} for step in steps]
    connection.execute(insert_into(run_keys, connection.dialect).on_conflict_do_nothing(), keys)
    marks = [
        {"t": step.span.trace_id, "s": step.span.span_id, "b": step.span.start_time, "r": step.became_run}
        for step in steps
    ]
    connection.execute(_mark, marks)


_mark: Final = (
    update(run_spans)
    .where(_spans.trace_id == bindparam("t"), _spans.span_id == bindparam("s"), _spans.start_time == bindparam("b"))
    .values(is_run=IS_RUN, run_id=bindparam("r"))
)


def with_turned_steps(connection: Connection, event_ids: Iterable[str]) -> set[str]:
    """Return those of the runs that have steps which have turned into runs."""
    keys = [_PREFIX + event_id for event_id in event_ids]
    return {row[0] for row in rows_with(connection, select(run_keys.c.event_id), run_keys.c.run_key, keys)}


def hand_over(connection: Connection, event_ids: Collection[str]) -> None:
    """Give what is below turned steps of these runs to the runs that the steps have become, once those are stored."""
    if not event_ids:
        return
    rows_of: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows_with(connection, _steps_of_run, _spans.event_id, event_ids):
        rows_of[row.event_id].append(row)
    for event_id, rows in rows_of.items():
        new_runs = _new_runs(connection, rows)
        tops = _tops(rows)
        steps = [row for row in rows if row.is_run != IS_RUN]
        _move(connection, run_spans, steps, tops, new_runs)
        events = connection.execute(select(_events.id, _events.span_id).where(_events.event_id == event_id)).all()
        _move(connection, run_events, events, tops, new_runs)


_steps_of_run: Final = select(
    _spans.id, _spans.event_id, _spans.run_id, _spans.span_id, _spans.parent_span_id, _spans.is_run
)


def _new_runs(connection: Connection, rows: Sequence[Any]) -> dict[str, tuple[str, str]]:
    """Return the id of each turned step → `event_id` and `run_id` of its run, where that is stored."""
    turned = {row.span_id: row.run_id for row in rows if row.is_run == IS_RUN}
    columns = agent_runs.c
    found = rows_with(connection, select(columns.run_id, columns.event_id), columns.run_id, turned.values())
    stored = {row.run_id: row.event_id for row in found}
    # A run whose state has not come yet gets its steps when it does: until then they stay where they are.
    return {span_id: (stored[run_id], run_id) for span_id, run_id in turned.items() if run_id in stored}


def _tops(rows: Sequence[Any]) -> dict[str, str]:
    """Return the id of each span at or below a turned step → that of the nearest one."""
    parents = {row.span_id: row.parent_span_id for row in rows}
    turned = {row.span_id for row in rows if row.is_run == IS_RUN}
    found: dict[str, str] = {}
    for span_id in parents:
        at, seen = span_id, set[str]()
        # `seen` ends a circle of parents, which ids from anywhere can form.
        while at in parents and at not in turned and at not in seen:
            seen.add(at)
            at = parents[at]
        if at in turned:
            found[span_id] = at
    return found


def _move(
    connection: Connection,
    table: Table,
    rows: Sequence[Any],
    tops: Mapping[str, str],
    new_runs: Mapping[str, tuple[str, str]],
) -> None:
    """Set the run of those of the rows whose span is at or below a turned step."""
    moves = [(row.id, *new_runs[tops[row.span_id]]) for row in rows if tops.get(row.span_id) in new_runs]
    if moves:
        change = (
            update(table).where(table.c.id == bindparam("of_id")).values(event_id=bindparam("e"), run_id=bindparam("r"))
        )
        connection.execute(
            change, [{"of_id": number, "e": event_id, "r": run_id} for number, event_id, run_id in moves]
        )
