"""Steps that turn out to be runs when they end: frameworks that set their attributes after the start."""

from __future__ import annotations

import json

import pytest
from on_disk import rows_of
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from otel_agent_telemetry import AgentRunSpanExporter, AgentRunSpanProcessor
from otel_agent_telemetry.operations.run_tree import read_tree
from otel_agent_telemetry.storage.queries import get_run
from otel_agent_telemetry.storage.store import reading_database

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 100}


def agent(name):
    return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}


def nested(tracer, *, inner="researcher"):
    """A workflow, an agent that says so only when it is done, and in it a tool with an agent that says so at once."""
    with tracer.start_as_current_span("workflow", attributes=agent("planner")):
        with tracer.start_as_current_span("inner") as late:
            with tracer.start_as_current_span("chat", attributes=CHAT) as chat:
                chat.add_event("token")
            with tracer.start_as_current_span("helper", attributes=agent("helper")):
                pass
            late.set_attributes(agent(inner))
        with tracer.start_as_current_span("after"):
            pass


def tokens(run):
    return json.loads(run.metrics_json or "{}").get("gen_ai", {}).get("input_tokens", 0)


def test_a_step_that_ends_as_an_agent_is_a_run_inside_the_run(captured):
    """With its steps, events and runs; the run around it has what is left."""
    nested(captured.provider.get_tracer("app"))
    outer, helper, inner = captured.runs
    assert [run.agent_name for run in (outer, inner, helper)] == ["planner", "researcher", "helper"]
    assert (inner.parent_run_id, helper.parent_run_id) == (outer.run_id, inner.run_id)
    assert (tokens(outer), tokens(inner)) == (0, 100)
    assert {step.name: step.run_id for step in captured.spans} == {"chat": inner.run_id, "after": outer.run_id}
    assert [event.event_id for event in captured.events] == [inner.event_id]
    assert inner.run_id.endswith(inner.event_id[:8])
    assert json.loads(outer.metrics_json)["gen_ai"] == {"steps": 1}


def test_an_agent_that_repeats_its_run_late_is_a_step(captured):
    """As it is where it says so at the start; what is inside it is the run's."""
    nested(captured.provider.get_tracer("app"), inner="planner")
    outer, helper = captured.runs
    assert (helper.parent_run_id, tokens(outer)) == (outer.run_id, 100)
    assert {step.run_id for step in captured.spans} == {outer.run_id}


def test_an_agent_inside_a_step_that_will_be_the_same_agent_is_its_step(captured):
    """The attributes are there before the inner span begins, but not at the start of the outer one."""
    tracer = captured.provider.get_tracer("app")
    with (
        tracer.start_as_current_span("root", attributes=agent("planner")),
        tracer.start_as_current_span("outer") as late,
    ):
        late.set_attributes(agent("writer"))
        with tracer.start_as_current_span("again", attributes=agent("writer")):
            tracer.start_span("chat", attributes=CHAT).end()
    assert [run.agent_name for run in captured.runs] == ["planner", "writer"]
    assert [tokens(run) for run in captured.runs] == [0, 100]


def test_the_first_agent_inside_gives_its_name_also_where_two_say_so_late(captured):
    """The second is asked first, because a span begins inside it."""
    tracer = captured.provider.get_tracer("app")
    with tracer.start_as_current_span("root", attributes={"openinference.span.kind": "AGENT"}):
        first = tracer.start_span("first")
        first.set_attributes(agent("planner"))
        with tracer.start_as_current_span("second") as second:
            second.set_attributes(agent("writer"))
            tracer.start_span("inside", attributes=agent("reader")).end()
        first.end()
    runs = {run.job_type: run.agent_name for run in captured.runs}
    assert runs == {"root": "planner", "second": "writer", "inside": "reader"}


def test_what_ends_after_the_agent_is_counted_there(captured):
    """A stream that outlives the span around it, and a step that begins below the ended agent."""
    tracer = captured.provider.get_tracer("app")
    with tracer.start_as_current_span("root"):
        with tracer.start_as_current_span("inner") as late:
            stream = tracer.start_span("chat", attributes=CHAT)
            late.set_attributes(agent("writer"))
        stream.end()
        with trace.use_span(late):
            tracer.start_span("chat", attributes=CHAT).end()
    root, inner = captured.runs
    assert (tokens(root), tokens(inner)) == (0, 200)
    assert {step.run_id for step in captured.spans} == {inner.run_id}


def test_a_late_agent_that_failed_is_why_its_run_failed(captured):
    """Its exception is an event of its span."""
    tracer = captured.provider.get_tracer("app")
    with pytest.raises(ValueError, match="bad"), tracer.start_as_current_span("root"):
        with tracer.start_as_current_span("inner") as late:
            late.set_attributes(agent("writer"))
            raise ValueError("bad")
    assert [(run.status, run.error_summary) for run in captured.runs] == [("failed", "ValueError: bad")] * 2


def test_the_journal_is_read_with_steps_and_events_at_the_late_run(config):
    """What was written for the run around it is shown below the run that its step has become."""
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(config))
    nested(provider.get_tracer("app"))
    assert provider.force_flush(30_000)
    provider.shutdown()
    shown = {}
    for row in rows_of(config).values():
        with reading_database(config) as connection:
            record = get_run(connection, event_id=row["event_id"])
        tree = read_tree(config, record, limit=100)
        children = [child.record.agent_name for child in tree.children]
        shown[record.agent_name] = ([s.name for s in tree.steps], [e.event_type for e in tree.events], children)
    assert shown == {
        "planner": (["after"], [], ["researcher"]),
        "researcher": (["chat"], ["token"], ["helper"]),
        "helper": ([], [], []),
    }


@pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
@pytest.mark.parametrize("exporter_first", [True, False])
def test_processor_and_exporter_together_count_once(config, processor, exporter_first):
    """100 tokens used are 100 tokens stored."""
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    doors = [AgentRunSpanProcessor(config), processor(AgentRunSpanExporter(config))]
    for door in reversed(doors) if exporter_first else doors:
        provider.add_span_processor(door)
    nested(provider.get_tracer("app"))
    assert provider.force_flush(30_000)
    provider.shutdown()
    rows = rows_of(config)
    used = [json.loads(row["metrics_json"] or "{}").get("gen_ai", {}).get("input_tokens", 0) for row in rows.values()]
    assert sorted(used) == [0, 0, 100]
