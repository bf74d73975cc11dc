"""Spans whose root span never arrived become a run, which the root joins when it comes after all.

A program that is killed, or leaves early, exports the children of its root span and not the
root. After a silence their trace gets a run for each parent that is missing: `failed`, with the
name, the times and the sums of what is there. Spans that are their own ancestors get one too.

`run_keys` maps such a parent's ids to the run. A state or span with these ids that arrives later
is that run's (contract 11); a span that turns out to be no run dissolves it again.

Owns the table `run_keys`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, select, text, update

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.last_error import EXCEPTION, error_of_exception, error_of_step
from otel_agent_telemetry.missing_root import REASON, SpanBelow, missing_above, missing_root_state
from otel_agent_telemetry.run_id import is_derived
from otel_agent_telemetry.status import FAILED
from otel_agent_telemetry.storage.deletions import drop_late_spans
from otel_agent_telemetry.storage.journal_lines import join_lines
from otel_agent_telemetry.storage.plumbing import mark_silent
from otel_agent_telemetry.storage.run_logs import settle_logs
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.span_places import Key
from otel_agent_telemetry.storage.statements import has_rows, insert_into, plain_sql, rows_with
from otel_agent_telemetry.storage.steps import NO_RUN, SERVICE, loaded_usage
from otel_agent_telemetry.storage.tables import agent_runs, run_events, run_keys, run_rollups, run_spans
from otel_agent_telemetry.storage.traces import lock_traces, write_traces
from otel_agent_telemetry.wire import load_object

_MAX_TRACES: Final = 200
_NS: Final = 1_000_000_000
# "oat_mute" in ASCII, so that it can be recognised in `pg_locks`.
_ONE_SERVICE_LOCK: Final = 0x6F61745F6D757465

_spans: Final = run_spans.c
_event_ids: Final = select(run_keys.c.run_key, run_keys.c.event_id)
_is_waiting: Final = (_spans.event_id == NO_RUN, _spans.is_run == 0)
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
    keys = [{"run_key": _key(state["trace_id"], state["span_id"]), "event_id": state["event_id"]} for state in states]
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


def _key(trace_id: str, span_id: str) -> str:
    """Return the key of `run_keys` for a span's ids."""
    return f"span:{trace_id}:{span_id}"


def known_keys(connection: Connection, keys: Iterable[Key]) -> dict[Key, str]:
    """Return `(trace id, span id)` → `event_id` of the runs that were made for spans with these ids."""
    # The usual case: nothing was ever silent, and one look in an index says so.
    if not has_rows(connection, run_keys):
        return {}
    wanted = {_key(*key): key for key in keys}
    rows = rows_with(connection, _event_ids, run_keys.c.run_key, wanted)
    return {wanted[run_key]: event_id for run_key, event_id in rows}


def joined(connection: Connection, states: Sequence[Fields], known: Mapping[Key, str]) -> list[Fields]:
    """Return the states with the `event_id` of the runs that were made for their spans, which take their run ids.

    What was made up for such a run gives way to any state of its own.
    """
    changed = []
    for state in states:
        event_id = known.get((state.get("trace_id") or "", state.get("span_id") or ""))
        # A state whose id is not made from its span has no steps: it must not take those of the span.
        if event_id is not None and is_derived(state["event_id"]):
            _rename(connection, event_id, state["run_id"])
            connection.execute(_forget_made_up, {"of_run": event_id})
            join_lines(connection, state["event_id"], event_id)
            state = {**state, "event_id": event_id}  # noqa: PLW2901 - the state under its run's id
        changed.append(state)
    return changed


def _rename(connection: Connection, event_id: str, run_id: str) -> None:
    """Let what belongs to a run name it by its new run id."""
    before = connection.execute(select(agent_runs.c.run_id).where(agent_runs.c.event_id == event_id)).scalar()
    if before is None or before == run_id:
        return
    for table in (run_spans, run_events):
        connection.execute(update(table).where(table.c.event_id == event_id).values(run_id=run_id))
    for parents in (run_rollups, agent_runs):
        connection.execute(update(parents).where(parents.c.parent_run_id == before).values(parent_run_id=run_id))


_forget_key: Final = delete(run_keys).where(run_keys.c.event_id == bindparam("of_run"))
_forget_run: Final = delete(agent_runs).where(agent_runs.c.event_id == bindparam("of_run"))
_forget_made_up: Final = _forget_run.where(agent_runs.c.status == FAILED, agent_runs.c.error_summary.startswith(REASON))
_forget_sums: Final = delete(run_rollups).where(run_rollups.c.event_id == bindparam("of_run"))
_let_wait: Final = update(run_spans).where(_spans.event_id == bindparam("of_run")).values(event_id=NO_RUN, run_id="")
_let_events_wait: Final = (
    update(run_events).where(run_events.c.event_id == bindparam("of_run")).values(event_id=NO_RUN, run_id="")
)


def dissolve(connection: Connection, event_ids: Iterable[str]) -> None:
    """Take back runs that were made for spans which turn out to be steps; what belonged to them waits again."""
    for event_id in event_ids:
        for statement in (_forget_key, _forget_run, _forget_sums, _let_wait, _let_events_wait):
            connection.execute(statement, {"of_run": event_id})
