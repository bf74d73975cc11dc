"""Spans of two kinds, steps and runs, numbered; how they are delivered, and what became of them."""

from __future__ import annotations

from storage_cases import at

from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.storage.steps import Rollup, rollups_of, spans_of
from otel_agent_telemetry.storage.store import WriteBatch, write_batch
from otel_agent_telemetry.storage.traces import SpanNode

TRACE = "0af7651916cd43dd8448eb211c80319c"


def span(number, parent, *, trace=TRACE, **more):
    parent_id = None if parent is None else f"{parent:016x}"
    ids = {"event_id": "", "run_id": "", "trace_id": trace, "span_id": f"{number:016x}", "parent_span_id": parent_id}
    return RunSpan(**ids, name=f"span {number}", start_time=at(number), end_time=at(number + 1), status="ok", **more)


def events(number, count, *, trace=TRACE):
    ids = {"event_id": "", "run_id": "", "trace_id": trace, "span_id": f"{number:016x}"}
    return tuple(RunEvent(**ids, event_type=f"e{n}", timestamp=at(number)) for n in range(count))


def step(number, parent, *, tokens=0, count=0, trace=TRACE):
    usage = {"steps": 1, "input_tokens": tokens} if tokens else {"steps": 1}
    node = SpanNode(span(number, parent, trace=trace), usage=usage, events=events(number, count, trace=trace))
    return WriteBatch(nodes=(node,))


def run_of(number, *, trace=TRACE, **more):
    span_id = f"{number:016x}"
    times = {"created_at": at(number), "updated_at": at(number + 1), "start_time": at(number)}
    names = {"run_id": f"run-{number}", "agent_name": "agent", "job_type": "job", "status": "success"}
    ids = {"event_id": span_event_id(trace, span_id), "trace_id": trace, "span_id": span_id}
    return RunRecord(**{**ids, **times, **names, **more})


def run(number, parent=None, *, own=0, trace=TRACE, **more):
    """A run's span and its state, as one request brings them."""
    node = SpanNode(span(number, parent, trace=trace), is_run=True, usage={"input_tokens": own} if own else {})
    return WriteBatch((run_of(number, trace=trace, **more),), nodes=(node,))


def ident(number, trace=TRACE):
    return span_event_id(trace, f"{number:016x}")


def deliver(database, *batches):
    for batch in batches:
        with database.writing() as connection:
            write_batch(connection, batch)


def names_of(database, number):
    with database.reading() as connection:
        return [found.name for found in spans_of(connection, ident(number))]


def usage_of(database, number):
    with database.reading() as connection:
        return rollups_of(connection, [ident(number)]).get(ident(number), Rollup()).shown()
