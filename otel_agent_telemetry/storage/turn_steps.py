"""Steps of a turn from its log records: one for each call of a model or a tool, while no span of the turn is known.

A program that sends traces too describes the same calls as spans, in more detail; then the spans are the steps, and
these go. Which of the two a run has follows from what is stored, whichever came first.

Owns the rows of `run_spans` whose `writer` is LOG_WRITER. Their `trace_id` is the stretch, so that one step in an index
shows whether a run has others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, delete, or_, select, update

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.storage.rollups import add_to_rollups, recount_rollups
from otel_agent_telemetry.storage.statements import rows_with
from otel_agent_telemetry.storage.steps import NO_RUN, SpanRow, add_spans
from otel_agent_telemetry.storage.tables import LOG_WRITER, run_spans
from otel_agent_telemetry.storage.turn_records import Placed, number_of
from otel_agent_telemetry.storage.turn_rows import turns_of_runs
from otel_agent_telemetry.usage import CHILD_ERRORS, Usage

_spans: Final = run_spans.c
_of_run: Final = select(_spans.id).where(_spans.event_id == bindparam("of_run"))
_has_spans: Final = select(
    or_(
        _of_run.where(_spans.trace_id < bindparam("of_stretch")).exists(),
        _of_run.where(_spans.trace_id > bindparam("of_stretch")).exists(),
    )
)
_forget: Final = delete(run_spans).where(
    _spans.event_id == bindparam("of_run"), _spans.trace_id == bindparam("of_stretch"), _spans.writer == LOG_WRITER
)
_of_record: Final = and_(_spans.writer == LOG_WRITER, _spans.writer_seq == bindparam("of_record"))
_to_run: Final[dict[str, Any]] = {"event_id": bindparam("to_event_id"), "run_id": bindparam("to_run_id")}
_move: Final = update(run_spans).where(_of_record).values(_to_run)
_runs_of_traces: Final = select(_spans.event_id).where(_spans.event_id != NO_RUN).distinct()


def add_steps(connection: Connection, placed: Sequence[Placed]) -> None:
    """Write the steps that new records are, but for turns whose spans are known."""
    stretches = {one.event_id: one.record.stretch for one in placed if one.record.step is not None}
    have_spans = {event_id for event_id, stretch in stretches.items() if _is_spans(connection, event_id, stretch)}
    rows = [row for one in placed if one.event_id not in have_spans and (row := _row(one)) is not None]
    add_spans(connection, rows)
    used: defaultdict[str, list[Usage]] = defaultdict(list)
    for row in rows:
        if row.of_run is not None and row.of_run[0] != NO_RUN:
            used[row.of_run[0]].append(row.usage)
    add_to_rollups(connection, steps=used)


def _is_spans(connection: Connection, event_id: str, stretch: str) -> bool:
    """Return whether a run has spans, beside the steps from the records of its stretch."""
    if event_id == NO_RUN:
        return False
    return bool(connection.execute(_has_spans, {"of_run": event_id, "of_stretch": stretch}).scalar())


def _row(placed: Placed) -> SpanRow | None:
    """Return the step that a record is; None for none."""
    record = placed.record
    if record.step is None:
        return None
    usage: dict[str, Any] = {"steps": 1}
    if record.step.status == "error":
        usage[CHILD_ERRORS] = 1
    return SpanRow(
        record.step,
        usage=usage,
        start_ns=parse_iso(record.step.start_time),
        writer=LOG_WRITER,
        writer_seq=number_of(record.identity),
        of_run=(placed.event_id, placed.run_id),
    )


def move_steps(connection: Connection, moves: Sequence[Placed], left: Collection[str]) -> None:
    """Give steps of records that have another turn now the run of that; `left`: the runs that they were steps of."""
    if not moves:
        return
    values = [
        {"of_record": number_of(one.record.identity), "to_event_id": one.event_id, "to_run_id": one.run_id}
        for one in moves
    ]
    connection.execute(_move, values)
    recount_rollups(connection, ({one.event_id for one in moves} | set(left)) - {NO_RUN}, {})


def prefer_spans(connection: Connection, stretches: Mapping[str, str]) -> None:
    """Delete the steps from records of those of these runs that have spans; by `event_id`, with their stretches."""
    lost = set()
    for event_id, stretch in sorted(stretches.items()):
        if _is_spans(connection, event_id, stretch):
            forgotten = connection.execute(_forget, {"of_run": event_id, "of_stretch": stretch})
            lost |= {event_id} if forgotten.rowcount else set()
    if lost:
        recount_rollups(connection, lost, {})


def prefer_spans_of(connection: Connection, trace_ids: Iterable[str]) -> None:
    """Do the same for the turns that spans of these traces are steps of."""
    found = {event_id for (event_id,) in rows_with(connection, _runs_of_traces, _spans.trace_id, trace_ids)}
    prefer_spans(connection, {turn.event_id: turn.stretch for turn in turns_of_runs(connection, found)})
