"""Spans of two kinds, steps and runs, numbered; how they are delivered, and what became of them."""

from __future__ import annotations

from storage_cases import at, at_ns

from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.storage.rollups import Rollup, rollups_of
from otel_agent_telemetry.storage.steps import spans_of
from otel_agent_telemetry.storage.store import WriteBatch, write_batch
from otel_agent_telemetry.storage.traces import SpanNode
from otel_agent_telemetry.usage import shown_usage

TRACE = "0af7651916cd43dd8448eb211c80319c"


def span(number, parent, *, trace=TRACE, start=None, **more):
    """A span that starts at `start`, by default `number`, seconds after T0."""
    start = number if start is None else start
    parent_id = None if parent is None else f"{parent:016x}"
    ids = {"event_id": "", "run_id": "", "trace_id": trace, "span_id": f"{number:016x}", "parent_span_id": parent_id}
    return RunSpan(**ids, name=f"span {number}", start_time=at(start), end_time=at(start + 1), status="ok", **more)


def events(number, count, *, trace=TRACE):
    ids = {"event_id": "", "run_id": "", "trace_id": trace, "span_id": f"{number:016x}"}
    return tuple(RunEvent(**ids, event_type=f"e{n}", timestamp=at(number)) for n in range(count))


def step(number, parent, *, tokens=0, count=0, trace=TRACE, start=None, parent_start=None):
    usage = {"steps": 1, "input_tokens": tokens} if tokens else {"steps": 1}
    node = SpanNode(
        span(number, parent, trace=trace, start=start),
        usage=usage,
        events=events(number, count, trace=trace),
        start_ns=at_ns(number if start is None else start),
        parent_start=None if parent_start is None else at(parent_start),
    )
    return WriteBatch(nodes=(node,))


def using(number, parent, usage):
    """A step that reports this usage."""
    return WriteBatch(nodes=(SpanNode(span(number, parent), usage=usage, start_ns=at_ns(number)),))


def run_of(number, *, trace=TRACE, start=None, **more):
    start = number if start is None else start
    times = {"created_at": at(start), "updated_at": at(start + 1), "start_time": at(start)}
    names = {"run_id": run_id_of(number, start), "agent_name": "agent", "job_type": "job", "status": "success"}
    ids = {"event_id": ident(number, trace, start), "trace_id": trace, "span_id": f"{number:016x}"}
    return RunRecord(**{**ids, **times, **names, **more})


def run_id_of(number, start):
    return f"run-{number}" if start == number else f"run-{number}-at-{start}"


def run(number, parent=None, *, own=0, trace=TRACE, start=None, **more):
    """A run's span and its state, as one request brings them."""
    node = SpanNode(
        span(number, parent, trace=trace, start=start),
        is_run=True,
        usage={"input_tokens": own} if own else {},
        start_ns=at_ns(number if start is None else start),
    )
    return WriteBatch((run_of(number, trace=trace, start=start, **more),), nodes=(node,))


def ident(number, trace=TRACE, start=None):
    return span_event_id(trace, f"{number:016x}", at_ns(number if start is None else start))


def deliver(database, *batches):
    for batch in batches:
        with database.writing() as connection:
            write_batch(connection, batch)


def names_of(database, number, start=None):
    with database.reading() as connection:
        return [found.name for found in spans_of(connection, ident(number, start=start))]


def usage_of(database, number, start=None):
    event_id = ident(number, start=start)
    with database.reading() as connection:
        rollup = rollups_of(connection, [event_id]).get(event_id, Rollup())
    return shown_usage(own=rollup.own, steps=rollup.steps)
