"""Join turns, which log records make, with the spans of the same program; whichever comes first.

Two ways, by what the agent's records say (`conventions.log_words`):

    The record of the prompt names a span that is the same run (Claude Code). Where the span's run is stored, the turn
    joins it; else `run_keys` keeps the ids, and the span's state takes the turn's run when it comes. The span's
    state stands then, and what was made of the records gives way.

    The records name traces that are parts of the turn (Codex, Gemini CLI). Root spans of such a trace that are stored
    as runs become steps of the turn, with all below them; so do those that come later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, select, update

from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.missing_root import REASON
from otel_agent_telemetry.run_id import is_derived
from otel_agent_telemetry.status import FAILED
from otel_agent_telemetry.storage.rollups import recount_rollups
from otel_agent_telemetry.storage.run_keys import forget_made_up, known_keys, rename_run, span_key
from otel_agent_telemetry.storage.span_membership import own_event_id, run_ids_of
from otel_agent_telemetry.storage.span_places import Key
from otel_agent_telemetry.storage.statements import insert_into, rows_with
from otel_agent_telemetry.storage.steps import IS_RUN, NO_RUN
from otel_agent_telemetry.storage.tables import agent_runs, run_events, run_keys, run_rollups, run_spans
from otel_agent_telemetry.storage.traces import SpanNode
from otel_agent_telemetry.storage.turn_rows import TURN_TRACE, TurnRow, save_turns, turns_of_runs
from otel_agent_telemetry.usage import Usage
from otel_agent_telemetry.wire import dumps_text

_runs: Final = agent_runs.c
_spans: Final = run_spans.c
_keys: Final = run_keys.c
_run_at: Final = select(_runs.event_id, _runs.status, _runs.error_summary).where(
    _runs.trace_id == bindparam("of_trace"), _runs.span_id == bindparam("of_span")
)
_forget_run: Final = delete(agent_runs).where(_runs.event_id == bindparam("of_run"))


def _step(*, failed: bool) -> Usage:
    """Return what a root span is counted as that is a step of a turn: figures come from the records."""
    return {"steps": 1, "child_errors": 1} if failed else {"steps": 1}


# --- a span that is the same run


def join_span(connection: Connection, turn: TurnRow, key: Key) -> None:
    """Let a turn be the run of the span with these ids: the stored one, else the one that will come."""
    # First what silence has made of the spans below: its root is missing, and the prompt knows more of it.
    if (made_up := known_keys(connection, [key]).get(key)) is not None:
        turn.event_id = made_up
        forget_made_up(connection, made_up)
        return
    found = connection.execute(_run_at, {"of_trace": key[0], "of_span": key[1]}).all()
    for event_id, status, summary in found:
        if is_derived(event_id) and event_id != turn.event_id:
            turn.event_id = event_id
            turn.has_root = not (status == FAILED and (summary or "").startswith(REASON))
            return
    keep = insert_into(run_keys, connection.dialect).on_conflict_do_nothing()
    connection.execute(keep, {"run_key": span_key(*key), "event_id": turn.event_id})


def give_way(connection: Connection, states: Iterable[Fields], known: Mapping[Key, str]) -> None:
    """Take back what records have made of runs whose own span has come.

    `known`: ids of spans → the runs that were made before they came.
    """
    come = {
        event_id: state["run_id"]
        for state in states
        if (event_id := known.get((state.get("trace_id") or "", state.get("span_id") or ""))) is not None
    }
    joined = turns_of_runs(connection, come)
    for turn in joined:
        if not turn.has_root:
            # Before its row is gone: what belongs to the run is found by that.
            rename_run(connection, turn.event_id, come[turn.event_id])
            connection.execute(_forget_run, {"of_run": turn.event_id})
        turn.has_root, turn.is_open, turn.state = True, False, None
    save_turns(connection, joined)


def runs_of_turns(connection: Connection, event_ids: Iterable[str]) -> set[str]:
    """Return those of these runs that are turns."""
    return {turn.event_id for turn in turns_of_runs(connection, event_ids)}


# --- traces that are parts of a turn


class OfTurns(NamedTuple):
    """Spans, of which the roots in turns' traces are steps; those traces, each with its run; and what the roots were.

    `were_runs`: the `event_id` of runs whose states are not written.
    """

    nodes: Sequence[SpanNode]
    traces: Mapping[str, str]
    were_runs: set[str]


def as_steps(connection: Connection, nodes: Sequence[SpanNode]) -> OfTurns:
    """Let the root spans in traces that are parts of turns be steps of those; spans of deleted turns are left out."""
    traces = {node.span.trace_id for node in nodes if node.is_from_coding_agent}
    turns = traces_of_turns(connection, traces) if traces else {}
    if not turns:
        return OfTurns(nodes, turns, set())
    # A turn whose run is gone was deleted: the key of its trace stays, so that late spans make no run again.
    stored = run_ids_of(connection, turns.values())
    kept, were_runs = [], set()
    for node in nodes:
        event_id = turns.get(node.span.trace_id)
        is_root = event_id is not None and node.is_run and node.parent is None
        if is_root:
            were_runs.add(own_event_id(node.identity))
        if event_id is None or event_id in stored:
            kept.append(_as_step(node) if is_root else node)
    return OfTurns(kept, turns, were_runs)


def _as_step(node: SpanNode) -> SpanNode:
    """Return a root span as a step."""
    usage = _step(failed=node.span.status == "error")
    return replace(node, is_run=False, usage=usage, agent=None, as_step=None, is_idle=False, state=None)


def traces_of_turns(connection: Connection, trace_ids: Iterable[str]) -> dict[str, str]:
    """Return trace id → `event_id` of the turn's run that the trace is a part of."""
    wanted = {TURN_TRACE + trace_id: trace_id for trace_id in trace_ids}
    rows = rows_with(connection, select(_keys.run_key, _keys.event_id), _keys.run_key, wanted)
    return {wanted[run_key]: event_id for run_key, event_id in rows}


def take_traces(connection: Connection, event_id: str, run_id: str, trace_ids: Collection[str]) -> None:
    """Let traces be parts of a turn's run, with the root spans in them that are stored as runs."""
    new = set(trace_ids) - traces_of_turns(connection, trace_ids).keys()
    if not new:
        return
    keep = insert_into(run_keys, connection.dialect).on_conflict_do_nothing()
    connection.execute(keep, [{"run_key": TURN_TRACE + trace_id, "event_id": event_id} for trace_id in sorted(new)])
    roots = select(_spans.trace_id, _spans.span_id, _spans.start_ns, _spans.status).where(
        _spans.parent_span_id.is_(None), _spans.is_run == IS_RUN, _spans.event_id == NO_RUN
    )
    # Read whole: the rows are changed below while they would still be read.
    found = list(rows_with(connection, roots, _spans.trace_id, new))
    for trace_id, span_id, start_ns, status in found:
        absorb(connection, own_event_id((trace_id, span_id, start_ns)), event_id, run_id)
        of_span = (_spans.trace_id == trace_id, _spans.span_id == span_id, _spans.start_ns == start_ns)
        step = {"is_run": 0, "event_id": event_id, "run_id": run_id}
        usage = dumps_text(_step(failed=status == "error"))
        connection.execute(update(run_spans).where(*of_span).values(**step, usage_json=usage))
    if found:
        recount_rollups(connection, {event_id}, {})


def absorb(connection: Connection, event_id: str, into: str, run_id: str) -> None:
    """Give all that belongs to a run to another one, and delete its row."""
    before = connection.execute(select(_runs.run_id).where(_runs.event_id == event_id)).scalar()
    for table in (run_spans, run_events):
        connection.execute(update(table).where(table.c.event_id == event_id).values(event_id=into, run_id=run_id))
    for parents in (run_rollups, agent_runs):
        if before is not None:
            connection.execute(update(parents).where(parents.c.parent_run_id == before).values(parent_run_id=run_id))
    for table, column in (
        (run_rollups, run_rollups.c.event_id),
        (run_keys, _keys.event_id),
        (agent_runs, _runs.event_id),
    ):
        connection.execute(delete(table).where(column == event_id))


def take_waiting(connection: Connection, trace_ids: Iterable[str]) -> set[str]:
    """Let spans that wait for a root in traces of turns be steps of those; return these traces."""
    turns = traces_of_turns(connection, trace_ids)
    for trace_id, event_id in turns.items():
        run_id = connection.execute(select(_runs.run_id).where(_runs.event_id == event_id)).scalar() or ""
        values: dict[str, Any] = {"event_id": event_id, "run_id": run_id}
        waiting = (_spans.trace_id == trace_id, _spans.event_id == NO_RUN, _spans.is_run == 0)
        connection.execute(update(run_spans).where(*waiting).values(**values))
    if turns:
        recount_rollups(connection, turns.values(), {})
    return set(turns)
