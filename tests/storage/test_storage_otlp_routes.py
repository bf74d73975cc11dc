"""Spans over OTLP, in any order, repetition and partition, give the rows that recording them live gives."""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select

from otel_agent_telemetry.otel.receiver import SpanReceiver
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.storage.counts import count_by
from otel_agent_telemetry.storage.queries import list_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.steps import spans_of
from otel_agent_telemetry.storage.store import WriteBatch, write_batch
from otel_agent_telemetry.storage.tables import agent_runs, run_counts, run_events, run_rollups, run_spans
from otel_agent_telemetry.testing import capture_runs
from tests.otel.span_trees import left_out_of, record_tree, shape_of, traces

RECEIVER = SpanReceiver(runs="root", around=ResourceDefaults())


def send(database, spans):
    """What one request with these spans writes."""
    received = RECEIVER.read(encode_spans(spans))
    nodes = RECEIVER.nodes_of(received.items, received)
    with database.writing() as connection:
        write_batch(connection, WriteBatch([node.state for node in nodes if node.state is not None], (), nodes))


def stored(database):
    """The runs, and the steps that are no runs."""
    with database.reading() as connection:
        runs = list_runs(connection, RunQuery(priced=False))
        parts = select(run_spans.c.trace_id, run_spans.c.span_id).where(run_spans.c.is_run == 1)
        inner = {tuple(row) for row in connection.execute(parts)}
        steps = [step for run in runs for step in spans_of(connection, run.event_id)]
        assert count_by(connection, "agent_name") == count_of(run.agent_name for run in runs)
    return runs, [step for step in steps if (step.trace_id, step.span_id) not in inner]


def count_of(names):
    counts = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


PLANNER = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
REPEATED = [(PLANNER, None, False), (PLANNER, 0, False), (PLANNER, 0, False), (PLANNER, 1, False)]


@example(drawn=(REPEATED, [0, 1, 2, 3], [False] * 4))
@example(drawn=([({"openinference.span.kind": "AGENT"}, None, False), (PLANNER, 0, False)], [0, 1, 0], [False, True]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(drawn=traces())
def test_any_order_partition_and_repetition_gives_the_live_rows(sqlite_database, drawn):
    """Runs, parents, names, sums, what was left out, steps and counts; where agents repeat their run, and where calls are inside calls."""
    with sqlite_database.writing() as connection:
        for table in (agent_runs, run_spans, run_events, run_rollups, run_counts):
            connection.execute(table.delete())
    tree, arrivals, cuts = drawn
    with capture_runs() as live:
        record_tree(live.provider.get_tracer("app"), tree)
    finished = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(finished))
    record_tree(provider.get_tracer("app"), tree)
    by_start = sorted(finished.get_finished_spans(), key=lambda span: int(span.name.split()[1]))
    batch = []
    for number, cut in zip(arrivals, cuts, strict=False):
        batch.append(by_start[number])
        if cut:
            send(sqlite_database, batch)
            batch = []
    send(sqlite_database, batch)
    runs, steps = stored(sqlite_database)
    assert shape_of(runs, steps) == shape_of(live.runs, live.spans)
    # By live recording, what is below a span that is only known as an agent at its end counts for the run around it.
    counted, expected = left_out_of(tree, runs, steps)
    assert counted == expected
