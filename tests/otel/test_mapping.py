"""Agents inside runs: which are runs of their own, which only repeat the one around them, and what they are called."""

from __future__ import annotations

import pytest
from opentelemetry import baggage, context
from opentelemetry.trace import SpanKind

WORKFLOW = {"gen_ai.operation.name": "invoke_workflow"}
AGENT = {"openinference.span.kind": "AGENT"}


@pytest.fixture
def start(captured):
    """Start a span that is current inside a `with`: an agent's when a name is given."""
    tracer = captured.provider.get_tracer("app")

    def started(span_name, agent=None, **more):
        attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent} if agent else {}
        return tracer.start_as_current_span(span_name, attributes={**attributes, **more.pop("attributes", {})}, **more)

    return started


def named(captured):
    """`(agent_name, agent_name of the parent run)` of every run, in order of their start."""
    runs = {run.run_id: run for run in captured.runs}
    return [(run.agent_name, getattr(runs.get(run.parent_run_id), "agent_name", None)) for run in runs.values()]


def test_another_agent_inside_a_run_is_a_run_of_its_own(captured, start):
    """At any depth; its steps are its own."""
    with start("invoke_agent lead", "lead"), start("delegate"), start("invoke_agent helper", "helper"), start("look"):
        pass
    assert named(captured) == [("lead", None), ("helper", "lead")]
    assert {step.name: step.run_id for step in captured.spans} == {
        "delegate": captured.runs[0].run_id,
        "look": captured.runs[1].run_id,
    }


def test_the_same_agent_again_is_a_step(captured, start):
    """A wrapper and what it wraps are one run; the span says whose step it is."""
    with start("track_run", "lead"), start("invoke_agent lead", "lead") as inner:
        pass
    assert named(captured) == [("lead", None)]
    assert [step.name for step in captured.spans] == ["invoke_agent lead"]
    assert inner.attributes["agent.run.part_of"] == captured.runs[0].run_id


def test_a_nameless_workflow_takes_the_name_of_its_first_agent(captured, start):
    """That one is a step; the next, of another name, is a run inside."""
    with start("workflow", attributes=WORKFLOW):
        with start("invoke_agent first", "first"):
            pass
        with start("invoke_agent second", "second"):
            pass
        with start("invoke_agent first", "first"):
            pass
    assert named(captured) == [("first", None), ("second", "first")]


def test_a_nameless_agent_inside_an_agent_is_a_step(captured, start):
    """Nothing tells it apart."""
    with start("crew.kickoff", attributes=AGENT), start("inner", attributes={"gen_ai.operation.name": "invoke_agent"}):
        pass
    assert named(captured) == [("crew", None)]


def test_an_agent_of_openinference_is_called_as_its_span_is(captured, start):
    """Its own attributes come after its start."""
    with start("Agent workflow", attributes=AGENT):
        with start("Opener", attributes=AGENT):
            pass
        with start("Closer", attributes=AGENT) as closer:
            closer.set_attribute("agent.name", "Closer")
    assert named(captured) == [("Opener", None), ("Closer", "Opener")]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"openinference.span.kind": "CHAIN"}, "editor"),
        ({"openinference.span.kind": "CHAIN", "metadata": '{"lc_agent_name": "reviser"}'}, "reviser"),
        ({"openinference.span.kind": "CHAIN", "metadata": '{"lc_agent_name": 7'}, "editor"),
        ({"openinference.span.kind": "LLM"}, "unknown_service"),
        ({}, "unknown_service"),
    ],
)
def test_a_graph_is_called_as_it_calls_itself(captured, start, attributes, expected):
    """Known at the end only: the start's name is corrected."""
    with start("editor") as span:
        span.set_attributes(attributes)
    assert named(captured) == [(expected, None)]


def test_an_agent_under_a_web_request_is_a_run_of_its_own(captured, start):
    """The request is no agent's doing: it keeps its name and the agent has a run."""
    with start("GET /ask", kind=SpanKind.SERVER), start("invoke_agent helper", "helper"):
        pass
    assert [agent for agent, _ in named(captured)] == ["unknown_service", "helper"]


def test_who_marks_a_span_means_it(captured, start):
    """The same agent, marked, is a run of its own."""
    with start("outer", "lead"), start("inner", "lead", attributes={"agent.run.id": "mine"}):
        pass
    assert [run.run_id for run in captured.runs][1] == "mine"


def test_a_run_that_baggage_names_is_the_parent(captured, start):
    """As it comes with a request from another process; an id that cannot be one is nobody's."""
    for told, expected in (("run of another process", "run of another process"), ("a/b", None), ("", None)):
        token = context.attach(baggage.set_baggage("agent_run.id", told))
        try:
            with start("work"):
                pass
        finally:
            context.detach(token)
        assert captured.runs[-1].parent_run_id == expected


def test_the_run_above_counts_before_baggage(captured, start):
    """What is nearer is the parent."""
    with start("invoke_agent lead", "lead"):
        token = context.attach(baggage.set_baggage("agent_run.id", "elsewhere"))
        try:
            with start("invoke_agent helper", "helper"):
                pass
        finally:
            context.detach(token)
    assert captured.runs[1].parent_run_id == captured.runs[0].run_id


def test_a_service_that_is_called_as_its_agent_has_both_runs(captured, start):
    """A request is no agent, whatever the service's name is."""
    with start("POST /ask", attributes={"agent.run.job_type": "ask"}), start("invoke_agent x", "unknown_service"):
        pass
    assert len(captured.runs) == 2


def test_an_adopted_name_is_on_the_span_itself(captured, start):
    """So that an exporter, a collector and a service call the run the same."""
    with start("workflow", attributes=WORKFLOW) as root, start("invoke_agent first", "first"):
        pass
    assert root.attributes["agent.run.agent_name"] == "first"


@pytest.mark.parametrize("name", [123, None, b"bytes"])
def test_a_name_that_is_no_text_is_taken_as_text(captured, name):
    """Applications give what they have."""
    captured.provider.get_tracer("app").start_span(name).end()
    assert captured.runs[0].job_type == (str(name) or "unknown")


def test_baggage_that_is_copied_onto_spans_makes_no_runs_of_them(captured, start):
    """As Logfire does, and processors that copy baggage into attributes."""
    with start("POST /ask"), start("db query", attributes={"agent_run.id": "the caller's"}):
        pass
    assert len(captured.runs) == 1
    assert captured.runs[0].run_id != "the caller's"
