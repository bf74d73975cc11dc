"""Spans whose root span never arrived become a run, which the root joins when it comes after all.

A program that is killed, or leaves early, exports the children of its root span and not the
root. After a silence their trace gets a run for each parent that is missing: `failed`, with the
name, the times and the sums of what is there. Spans that are their own ancestors get one too.

What arrives later under the ids of such a parent joins the run (`run_keys`). Spans that wait in a trace which is a part
of a turn belong to that (`turn_traces`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, select, text

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.last_error import EXCEPTION, error_of_exception, error_of_step
from otel_agent_telemetry.missing_root import SpanBelow, missing_above, missing_root_state
from otel_agent_telemetry.storage.deletions import drop_late_spans
from otel_agent_telemetry.storage.plumbing import mark_silent
from otel_agent_telemetry.storage.run_keys import span_key
from otel_agent_telemetry.storage.run_logs import settle_logs
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.span_places import Key
from otel_agent_telemetry.storage.statements import insert_into, plain_sql, rows_with
from otel_agent_telemetry.storage.steps import NO_RUN, SERVICE, loaded_usage
from otel_agent_telemetry.storage.tables import LOG_WRITER, run_events, run_keys, run_spans
from otel_agent_telemetry.storage.traces import lock_traces, write_traces
from otel_agent_telemetry.storage.turn_steps import prefer_spans_of
from otel_agent_telemetry.storage.turn_traces import take_waiting
from otel_agent_telemetry.wire import load_object

_MAX_TRACES: Final = 200
_NS: Final = 1_000_000_000
# "oat_mute" in ASCII, so that it can be recognised in `pg_locks`.
_ONE_SERVICE_LOCK: Final = 0x6F61745F6D757465

_spans: Final = run_spans.c
# What a log record says of a call waits for its prompt, and not for a span.
_is_waiting: Final = (_spans.event_id == NO_RUN, _spans.is_run == 0, _spans.writer != LOG_WRITER)
_last_sign: Final = func.max(func.coalesce(_spans.end_time, _spans.start_time))
_waiting: Final = select(
    *(_spans.trace_id, _spans.span_id, _spans.parent_span_id, _spans.name, _spans.start_time, _spans.end_time),
    *(_spans.attributes_json, _spans.usage_json, _spans.status, _spans.status_message),
).where(*_is_waiting)
_events: Final = run_events.c
_waiting_exceptions: Final = select(_events.trace_id, _events.span_id, _events.timestamp, _events.payload_json).where(
    _events.event_id == NO_RUN, _events.event_type == EXCEPTION
)


def close_silent(
    connection: Connection, *, now_ns: int, silence_s: float, agent_of: Callable[[Mapping[str, Any]], str | None]
) -> int:
    """Make runs of spans that have waited in silence for their root; return how many runs.

    At most 200 traces at a time. `agent_of` returns the agent that a span's attributes name. Of
    several services one does it. Within the connection's transaction.
    """
    if connection.dialect.name == "postgresql":
        query = text("SELECT pg_try_advisory_xact_lock(:key)")
        if not connection.execute(query, {"key": _ONE_SERVICE_LOCK}).scalar():
            return 0
    # By the times that the spans name: a sender whose clock is behind may get its run some minutes early, and joins it.
    cutoff = iso_utc(now_ns - int(silence_s * _NS))
    silent = select(_spans.trace_id).where(*_is_waiting).group_by(_spans.trace_id).having(_last_sign < cutoff)
    traces = [str(trace_id) for trace_id in connection.execute(silent.limit(_MAX_TRACES)).scalars()]
    if not traces:
        return 0
    # Exclusively: a root that is being stored now must find either its orphans or the run made for them.
    lock_traces(connection, traces, shared=False)
    drop_late_spans(connection, traces)
    taken = take_waiting(connection, traces)
    prefer_spans_of(connection, taken)
    traces = [trace_id for trace_id in traces if trace_id not in taken]
    if not traces:
        return 0
    of_trace: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows_with(connection, _waiting, _spans.trace_id, traces):
        of_trace[row.trace_id].append(row)
    exceptions: defaultdict[Key, list[Any]] = defaultdict(list)
    for row in rows_with(connection, _waiting_exceptions, _events.trace_id, traces):
        exceptions[row.trace_id, row.span_id].append(row)
    states = [
        missing_root_state(trace_id, span_id, _below(rows, agent_of), last_error=_last_error(rows, exceptions))
        for trace_id, waiting in of_trace.items()
        for span_id, rows in _by_missing_parent(waiting).items()
    ]
    keys = [
        {"run_key": span_key(state["trace_id"], state["span_id"]), "event_id": state["event_id"]} for state in states
    ]
    connection.execute(insert_into(run_keys, connection.dialect).on_conflict_do_nothing(), keys)
    upsert_runs(connection, states)
    write_traces(connection, (), states)
    settle_logs(connection, traces, ())
    mark_silent(plain_sql(connection), {state["event_id"]: state.get("service_name") for state in states})
    return len(states)


def _by_missing_parent(rows: Sequence[Any]) -> Mapping[str, list[Any]]:
    """Return the spans of one trace by the id of the span above them all that is missing, or that leads to itself."""
    tops = missing_above({row.span_id: row.parent_span_id for row in rows})
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[tops[row.span_id]].append(row)
    return found


def _last_error(rows: Sequence[Any], exceptions: Mapping[Key, Sequence[Any]]) -> str:
    """Return the last error that these spans and their events name; empty where none does."""
    found = [*_errors_of_steps(rows)]
    for row in rows:
        found += _errors_of_exceptions(exceptions.get((row.trace_id, row.span_id), ()))
    return max((one for one in found if one[1]), default=("", ""))[1]


def _errors_of_steps(rows: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Yield when each failed step ended, and its error."""
    for row in rows:
        if row.status == "error":
            attributes = load_object(row.attributes_json or "{}") or {}
            yield row.end_time or row.start_time, error_of_step(row.status, row.status_message, attributes)


def _errors_of_exceptions(rows: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Yield when each exception came, and its error."""
    for row in rows:
        yield row.timestamp, error_of_exception(load_object(row.payload_json or "{}") or {})


def _below(rows: Iterable[Any], agent_of: Callable[[Mapping[str, Any]], str | None]) -> list[SpanBelow]:
    """Return what is known of the spans below a missing one."""
    return [
        SpanBelow(
            row.start_time,
            row.span_id,
            row.name,
            row.end_time or row.start_time,
            agent_of(load_object(row.attributes_json or "{}") or {}),
            loaded_usage(row.usage_json).get(SERVICE),
        )
        for row in rows
    ]
