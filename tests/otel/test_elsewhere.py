"""Agents below spans of other processes, or below roots that are no runs, whose attributes come after their start."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from opentelemetry import baggage, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_agent_telemetry import AgentRunSpanExporter, AgentRunSpanProcessor
from otel_agent_telemetry.otel import elsewhere
from otel_agent_telemetry.otel.propagation import current_run_id
from otel_agent_telemetry.otel.spans import RUN_ID_KEY
from otel_agent_telemetry.testing import MemoryRecorder, capture_runs, isolated_config
from tests.otel.span_trees import KINDS, shape_of

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 100}
REMOTE = trace.set_span_in_context(NonRecordingSpan(SpanContext(7, 9, is_remote=True, trace_flags=TraceFlags(1))))
AT_START, SOON, AT_END = "at its start", "before anything begins inside", "at its end"


def agent(name):
    return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}


def tokens(run):
    return json.loads(run.metrics_json or "{}").get("gen_ai", {}).get("input_tokens", 0)


def test_an_agent_that_says_so_at_its_end_is_a_run(captured, tracer):
    """With what has ended inside it: steps, events, tokens, the error; and with the parent that the baggage names."""
    context = baggage.set_baggage(RUN_ID_KEY, "caller", REMOTE)
    with (
        tracer.start_as_current_span("POST /ask", context=context),
        pytest.raises(ValueError, match="bad"),
        tracer.start_as_current_span("agent") as late,
    ):
        with tracer.start_as_current_span("chat", attributes=CHAT) as chat:
            chat.add_event("token")
        late.set_attributes(agent("writer"))
        raise ValueError("bad")
    (run,) = captured.runs
    assert (run.agent_name, run.status, run.error_summary) == ("writer", "failed", "ValueError: bad")
    assert (run.parent_run_id, tokens(run)) == ("caller", 100)
    assert [(step.name, step.run_id) for step in captured.spans] == [("chat", run.run_id)]
    assert {event.event_type for event in captured.events} == {"token", "exception"}
    assert {event.run_id for event in captured.events} == {run.run_id}


def test_an_agent_is_kept_when_the_next_span_begins_inside_it(captured, tracer):
    """From then on it is recorded as it happens: it has an id, and a killed process leaves it behind."""
    span = tracer.start_span("agent", context=REMOTE)
    span.add_event("before")
    span.set_attributes(agent("writer"))
    assert captured.runs == []
    with trace.use_span(span):
        chat = tracer.start_span("chat", attributes=CHAT)
        span.add_event("after")
        assert [(run.status, run.run_id) for run in captured.runs] == [("running", current_run_id())]
        assert [event.event_type for event in captured.events] == ["before", "after"]
    chat.end()
    span.end()
    assert [(run.status, tokens(run)) for run in captured.runs] == [("success", 100)]
    assert span.attributes["agent.run.id"] == captured.runs[0].run_id


def test_a_run_that_began_inside_moves_into_the_agent_around_it(captured, tracer):
    """It said at once that it is an agent, the span around it only at its end."""
    with tracer.start_as_current_span("outer", context=REMOTE) as late:
        with tracer.start_as_current_span("inner", attributes=agent("reader")):
            tracer.start_span("chat", attributes=CHAT).end()
        late.set_attributes(agent("writer"))
    runs = {run.agent_name: run for run in captured.runs}
    assert runs["reader"].parent_run_id == runs["writer"].run_id
    assert (tokens(runs["reader"]), tokens(runs["writer"])) == (100, 0)


def test_what_is_no_agent_leaves_nothing(captured, tracer):
    """No run, no step, no event on a disk, and nothing in memory."""
    with tracer.start_as_current_span("GET /", context=REMOTE), tracer.start_as_current_span("query") as query:
        query.add_event("slow")
        assert current_run_id() is None
        query.set_attribute("rows", 3)
    assert (captured.runs, captured.spans, captured.events) == ([], [], [])
    assert captured.recorder.active.open_spans == {}


def test_spans_of_a_long_request_are_kept_up_to_a_bound(captured, tracer, monkeypatch):
    """All are counted, the last are steps."""
    monkeypatch.setattr(elsewhere, "_MAX_KEPT", 5)
    with tracer.start_as_current_span("agent", context=REMOTE) as late:
        for number in range(20):
            tracer.start_span(f"chat {number}", attributes=CHAT).end()
        late.set_attributes(agent("writer"))
    assert tokens(captured.runs[0]) == 2_000
    assert [step.name for step in captured.spans] == [f"chat {number}" for number in range(15, 20)]


def test_an_agent_that_is_open_at_exit_is_a_failed_run(captured, tracer):
    """As one is that said so at its start."""
    span = tracer.start_span("agent", context=REMOTE)
    span.set_attributes(agent("writer"))
    processor = captured.provider._active_span_processor._span_processors[0]
    processor.close_open_runs()
    assert [(run.agent_name, run.status) for run in captured.runs] == [("writer", "failed")]


@pytest.mark.parametrize("when", [AT_START, SOON, AT_END])
def test_a_root_agent_is_a_run_where_only_agents_are(tmp_path, when):
    """`TELEMETRY_RUNS=agents`: a root that is none is no run, an agent below it is."""
    recorder = MemoryRecorder(isolated_config(tmp_path, runs="agents"))
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    record(provider.get_tracer("app"), [(agent("writer"), None, when), (CHAT, 0, AT_START)], None)
    record(provider.get_tracer("app"), [({}, None, AT_START), (agent("reader"), 0, when)], None)
    last = {state.event_id: state for state in recorder.states}
    assert [(run.agent_name, run.status, tokens(run)) for run in last.values()] == [
        ("writer", "success", 100),
        ("reader", "success", 0),
    ]


@pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
@pytest.mark.parametrize("when", [SOON, AT_END])
def test_an_exporter_beside_it_adds_nothing(tmp_path, processor, when):
    """No second run and no step twice, nor at its shutdown a run of a root that never came."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    provider.add_span_processor(processor(AgentRunSpanExporter(recorder=recorder)))
    record(provider.get_tracer("app"), [({}, None, AT_START), (agent("writer"), 0, when), (CHAT, 1, AT_START)], REMOTE)
    provider.shutdown()
    assert {state.agent_name for state in recorder.states} == {"writer"}
    assert len({state.event_id for state in recorder.states}) == 1
    assert [step.name for step in recorder.spans if step.status != "running"] == ["span 2"]


@some.composite
def trees(draw):
    """Spans, each with what it is, its parent, and when it says so.

    What says at its end that it is an agent is not the agent that something inside it has said to be before, and
    nothing inside it is the agent around it: ended first, that would be taken for the outer agent's own span.
    """
    size = draw(some.integers(1, 7))
    kinds = some.sampled_from([kind for kind in KINDS if "openinference.span.kind" not in kind])
    whens = some.sampled_from([AT_START, SOON, AT_END])
    parents = [None, *(draw(some.integers(0, number - 1)) for number in range(1, size))]
    tree = [(draw(kinds), parent, draw(whens)) for parent in parents]
    late: set[int | None] = set()
    """The spans that say at their end what they are, and all inside them."""
    for number, (kind, parent, when) in enumerate(tree):
        is_agent = "gen_ai.agent.name" in kind
        if when == AT_END or parent in late:
            late.add(number)
            tree[number] = (agent(f"agent {number}") if is_agent else kind, parent, when)
    return tree


def record(tracer, tree, context):
    """Make a tree of spans below a context, each with an event; the last that began ends first."""
    spans = []
    for number, (kind, parent, when) in enumerate(tree):
        around = context if parent is None else trace.set_span_in_context(spans[parent])
        span = tracer.start_span(f"span {number}", context=around, attributes=kind if when == AT_START else {})
        span.set_attributes(kind if when == SOON else {})
        span.add_event(f"event {number}")
        spans.append(span)
    for span, (kind, _, when) in zip(reversed(spans), reversed(tree), strict=True):
        span.set_attributes(kind if when == AT_END else {})
        span.end()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(tree=trees())
def test_live_rows_below_another_process_are_those_of_the_exporter(tree):
    """Runs, parents, names, sums, steps and events of what its attributes make an agent's, whenever they come."""
    finished = InMemorySpanExporter()
    with capture_runs() as live:
        live.provider.add_span_processor(SimpleSpanProcessor(finished))
        record(live.provider.get_tracer("app"), tree, REMOTE)
    with capture_runs() as exported:
        AgentRunSpanExporter(recorder=exported.recorder).export(finished.get_finished_spans())
    assert shape_of(live.runs, live.spans) == shape_of(exported.runs, exported.spans)
    events = [{event.event_type: event.run_id for event in way.events} for way in (live, exported)]
    assert events[0] == events[1]
