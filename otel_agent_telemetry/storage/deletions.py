"""Delete runs for good, with all that belongs to them; a mark of each keeps late states out (`marks`).

With a run its events, steps, roll-up and keys are deleted, the commits of its `run_id` unless
another run has it, and the runs inside it, at any depth. A run is inside another when it names
that one's `run_id` as its parent; where several runs share that `run_id`, it must be of the same
trace.

Where no run of a trace is left, the steps that wait there for a run are deleted as well, and later
spans that began before the deletion are not stored. Where runs are left, a later span may be a step of
theirs; one that began before and finds no run is what is left of a deleted one (`drop_late_spans`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, func, or_, select

from otel_agent_telemetry.deletion import CutOff, Deletion, Marks
from otel_agent_telemetry.storage.counts import pack_when_due
from otel_agent_telemetry.storage.marks import marks_against, put_marks, receipts_of
from otel_agent_telemetry.storage.runs import lock_links
from otel_agent_telemetry.storage.statements import has_rows, insert_into, rows_with
from otel_agent_telemetry.storage.steps import IS_RUN, NO_RUN, EventLine, SpanRow
from otel_agent_telemetry.storage.tables import (
    agent_runs,
    commits,
    deleted_runs,
    run_events,
    run_keys,
    run_rollups,
    run_spans,
)
from otel_agent_telemetry.storage.traces import SpanNode, lock_traces
from otel_agent_telemetry.storage.turn_rows import TURN_TRACE, forget_turns

_runs: Final = agent_runs.c
_OF_A_RUN: Final = (run_events, run_spans, run_rollups)
_ids: Final = (_runs.id, _runs.event_id, _runs.run_id, _runs.trace_id, _runs.span_id)
_AT_ONCE: Final = 200
_DELETED_IN: Final = "deleted:"
"""Before a trace id, the key under which `run_keys` has the last run that was deleted of a trace."""
_times_of_traces: Final = select(
    deleted_runs.c.trace_id, func.max(deleted_runs.c.deleted_at).label("deleted_at")
).group_by(deleted_runs.c.trace_id)


def put_cutoff(connection: Connection, cutoff: CutOff) -> None:
    """Store a cut-off; every state that is written after this transaction meets it."""
    lock_links(connection, shared=False)
    put_marks(connection, (cutoff,))


def delete_run(connection: Connection, event_id: str, *, deleted_at: str, deleted_by: str) -> list[Deletion]:
    """Delete a run and the runs inside it; return the receipts, the run's own first.

    Of a run that is deleted already, its receipt; none when no such run is known. On PostgreSQL
    no run is written from here to the end of the transaction.

    On PostgreSQL it blocks until the transactions that write runs now have ended. Raises the driver's errors.
    """
    lock_links(connection, shared=False)
    rows = _with_runs_inside(connection, event_id)
    if not rows:
        return list(receipts_of(connection, (event_id,)).values())
    emptied = _remove(connection, rows)
    receipts = [
        Deletion(
            event_id=row.event_id,
            run_id=row.run_id,
            deleted_at=deleted_at,
            deleted_by=deleted_by,
            trace_id=row.trace_id if row.trace_id in emptied else None,
        )
        for row in rows
    ]
    put_marks(connection, receipts)
    return receipts


def apply_marks(connection: Connection, marks: Marks) -> int:
    """Store marks that were made elsewhere and delete the runs that have a receipt; return how many were deleted.

    What the cut-off covers is deleted by `row_retention.delete_old`.
    """
    lock_links(connection, shared=False)
    rows = list(rows_with(connection, select(*_ids), _runs.event_id, marks.deleted))
    _remove(connection, rows)
    put_marks(connection, marks)
    return len(rows)


def _with_runs_inside(connection: Connection, event_id: str) -> list[Any]:
    """Return the rows of a run and of the runs inside it, the outer ones first."""
    level = list(connection.execute(select(*_ids).where(_runs.event_id == event_id)))
    # Level by level and by what is found, not by a recursive query: a circle of parents must end.
    found = {row.event_id: row for row in level}
    while level:
        level = [row for row in _directly_inside(connection, level) if row.event_id not in found]
        found.update({row.event_id: row for row in level})
    return list(found.values())


def _directly_inside(connection: Connection, parents: Sequence[Any]) -> Iterator[Any]:
    """Yield the rows of the runs whose parent is one of these."""
    run_ids = {row.run_id for row in parents}
    traces = {(row.run_id, row.trace_id) for row in parents if row.trace_id}
    counted = select(_runs.run_id, func.count().label("runs")).group_by(_runs.run_id)
    shared = {row.run_id for row in rows_with(connection, counted, _runs.run_id, run_ids) if row.runs > 1}
    by_state = select(*_ids, _runs.parent_run_id.label("parent"))
    by_spans = (
        select(*_ids, run_rollups.c.parent_run_id.label("parent"))
        .join(run_rollups, run_rollups.c.event_id == _runs.event_id)
        .where(_runs.parent_run_id.is_(None))
    )
    for selected, column in ((by_state, _runs.parent_run_id), (by_spans, run_rollups.c.parent_run_id)):
        for row in rows_with(connection, selected, column, run_ids):
            if row.parent not in shared or (row.parent, row.trace_id) in traces:
                yield row


def _remove(connection: Connection, rows: Sequence[Any]) -> set[str]:
    """Delete runs and every trace of them; return the traces of which no run is left."""
    traces = {row.trace_id for row in rows if row.trace_id}
    # Without it a span of the trace that is being stored now could settle on a run that is just being deleted.
    lock_traces(connection, traces, shared=False)
    # In parts: SQLite has a limit of bound values in one statement.
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        remove_runs(connection, part)
        _remove_own_spans(connection, part)
    left = rows_with(connection, select(_runs.trace_id).distinct(), _runs.trace_id, traces)
    emptied = traces - {row.trace_id for row in left}
    for table in (run_events, run_spans):
        for trace_id in sorted(emptied):
            _delete(connection, table, and_(table.c.trace_id == trace_id, table.c.event_id == NO_RUN))
    _note_traces(connection, [row for row in rows if row.trace_id in traces - emptied])
    return emptied


def _note_traces(connection: Connection, rows: Sequence[Any]) -> None:
    """Note the last run that was deleted of each trace that has others, for `drop_late_spans`."""
    statement = insert_into(run_keys, connection.dialect)
    upsert = statement.on_conflict_do_update(index_elements=["run_key"], set_={"event_id": statement.excluded.event_id})
    for trace_id, event_id in sorted({row.trace_id: row.event_id for row in rows}.items()):
        connection.execute(upsert, {"run_key": _DELETED_IN + trace_id, "event_id": event_id})


def drop_late_spans(connection: Connection, traces: Iterable[str]) -> None:
    """Delete the spans that wait in these traces for a run that was deleted after they had begun.

    The caller holds the traces' lock.
    """
    keys = {_DELETED_IN + trace_id: trace_id for trace_id in traces}
    noted = select(run_keys.c.run_key, deleted_runs.c.deleted_at).join(
        deleted_runs, deleted_runs.c.event_id == run_keys.c.event_id
    )
    for row in list(rows_with(connection, noted, run_keys.c.run_key, keys)):
        of_trace = keys[row.run_key]
        for table, began in ((run_spans, run_spans.c.start_time), (run_events, run_events.c.timestamp)):
            is_left = and_(table.c.trace_id == of_trace, table.c.event_id == NO_RUN, began < row.deleted_at)
            _delete(connection, table, is_left)


def _remove_own_spans(connection: Connection, rows: Sequence[Any]) -> None:
    """Delete the runs' own spans, which stand among the steps of the runs around them."""
    spans = run_spans.c
    own = [and_(spans.trace_id == row.trace_id, spans.span_id == row.span_id) for row in rows if row.span_id]
    if own:
        _delete(connection, run_spans, and_(or_(*own), spans.is_run == IS_RUN))


def remove_runs(connection: Connection, rows: Sequence[Any]) -> dict[str, int]:
    """Delete some hundred runs with all that belongs to them; return table → deleted rows. Leaves no marks.

    A row has `id`, `event_id` and `run_id`.
    """
    event_ids, run_ids = [row.event_id for row in rows], {row.run_id for row in rows}
    deleted = {table.name: _delete(connection, table, table.c.event_id.in_(event_ids)) for table in _OF_A_RUN}
    # A trace that is a part of a turn stays known as one: its late spans are not stored (`turn_traces`).
    _delete(connection, run_keys, and_(run_keys.c.event_id.in_(event_ids), ~run_keys.c.run_key.startswith(TURN_TRACE)))
    forget_turns(connection, event_ids)
    deleted["agent_runs"] = _delete(connection, agent_runs, _runs.id.in_([row.id for row in rows]))
    deleted["commits"] = _delete(connection, commits, and_(commits.c.run_id.in_(run_ids), ~has_run(commits.c.run_id)))
    # A deletion adds a line of -1 for each run on PostgreSQL, so it has to pack as a writer does.
    pack_when_due(connection, len(rows))
    return deleted


def has_run(run_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a run with this `run_id` is stored."""
    return exists().where(_runs.run_id == run_id)


def _delete(connection: Connection, table: Table, which: ColumnElement[bool]) -> int:
    """Delete the rows that meet a condition; return how many there were."""
    return connection.execute(delete(table).where(which)).rowcount


def without_deleted(connection: Connection, nodes: Sequence[SpanNode]) -> Sequence[SpanNode]:
    """Return the spans without those that began in a trace before all of it was deleted."""
    if not nodes:
        return nodes
    deleted = deleted_times(connection, {node.span.trace_id for node in nodes})
    if not deleted:
        return nodes
    return [node for node in nodes if node.span.start_time >= deleted.get(node.span.trace_id, "")]


def deleted_times(connection: Connection, trace_ids: Iterable[str]) -> dict[str, str]:
    """Return trace id → when all of it was deleted, of those of which that is so."""
    if not has_rows(connection, deleted_runs):
        return {}
    rows = rows_with(connection, _times_of_traces, deleted_runs.c.trace_id, trace_ids)
    return {row.trace_id: row.deleted_at for row in rows}


def lines_to_keep(connection: Connection, lines: Sequence[EventLine | SpanRow]) -> Sequence[EventLine | SpanRow]:
    """Return the lines of a journal without those of deleted runs.

    Of a run that is not stored, what is older than the cut-off is left out.
    """
    event_ids = {_parts_of(line)[0] for line in lines} - {NO_RUN}
    marks = marks_against(connection, event_ids) if event_ids else Marks()
    if not marks:
        return lines
    kept = [line for line in lines if _parts_of(line)[0] not in marks.deleted]
    if marks.cutoff is None:
        return kept
    stored = stored_ids(connection, event_ids)
    return [
        line
        for line in kept
        if (parts := _parts_of(line))[0] in stored or parts[0] == NO_RUN or parts[1] >= marks.cutoff.cutoff
    ]


def stored_ids(connection: Connection, event_ids: Iterable[str]) -> set[str]:
    """Return those of the `event_id` that a stored run has."""
    rows = rows_with(connection, select(_runs.event_id), _runs.event_id, event_ids)
    return {row.event_id for row in rows}


def _parts_of(line: EventLine | SpanRow) -> tuple[str, str]:
    """Return the `event_id` of the run that a line belongs to, and its time."""
    if isinstance(line, EventLine):
        return line.event_id, line.timestamp
    return line.span.event_id, line.span.end_time or line.span.start_time
