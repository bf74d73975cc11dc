"""What is a run on the live path, and the columns that its span gives it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import enum
import json

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from otel_agent_telemetry import AgentRunSpanProcessor
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.testing import MemoryRecorder, capture_runs, isolated_config


def remote_parent():
    context = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))
    return trace.set_span_in_context(NonRecordingSpan(context))


def test_root_span_is_a_run_from_its_start_on(captured, tracer):
    """Identity comes from the span; the id is set back on it; the end follows."""
    with tracer.start_as_current_span("fetch mail", attributes={"shard": 3}) as span:
        (running,) = captured.runs
        assert running.status == "running"
        assert span.attributes["agent.run.id"] == running.run_id

    (run,) = captured.runs
    context = span.get_span_context()
    assert (run.trace_id, run.span_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert run.event_id == span_event_id(run.trace_id, run.span_id, span.start_time)
    assert (run.status, run.job_type, run.agent_name) == ("success", "fetch mail", "unknown_service")
    assert json.loads(run.context_json) == {"shard": 3}
    assert run.run_id.endswith(run.event_id[:8])


def test_children_are_steps_of_the_run(captured, tracer):
    """At any depth, with parent, kind, status and times; a failed step counts as an error of a child."""
    with tracer.start_as_current_span("root"):
        with (
            tracer.start_as_current_span("outer", kind=SpanKind.CLIENT),
            tracer.start_as_current_span("inner") as inner,
        ):
            inner.set_attribute("rows", 3)
        with pytest.raises(ValueError), tracer.start_as_current_span("bad"):
            raise ValueError("x")

    (run,) = captured.runs
    outer, inner, bad = captured.spans
    assert {step.run_id for step in captured.spans} == {run.run_id}
    assert {step.event_id for step in captured.spans} == {run.event_id}
    assert (outer.parent_span_id, outer.kind, outer.status) == (run.span_id, "client", "unset")
    assert (inner.parent_span_id, inner.attributes) == (outer.span_id, {"rows": 3})
    assert (bad.status, bad.status_message) == ("error", "ValueError: x")
    assert all(step.end_time >= step.start_time for step in captured.spans)
    assert run.status == "success"
    assert json.loads(run.metrics_json) == {"gen_ai": {"child_errors": 1, "had_errors": True, "steps": 3}}


def test_step_is_written_when_it_starts(captured, tracer):
    """A killed process leaves its open steps in the journal."""
    with tracer.start_as_current_span("root"), tracer.start_as_current_span("step"):
        assert [(step.name, step.status, step.end_time) for step in captured.spans] == [("step", "running", None)]


def test_steps_in_other_threads_belong_to_the_run_whose_context_they_carry(captured, tracer):
    """With the context handed over a child; without it a root, so a run, of its own."""
    with tracer.start_as_current_span("root", attributes={"agent.run.id": "root"}) as root:
        carried = trace.set_span_in_context(root)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            pool.submit(lambda: tracer.start_span("carried", context=carried).end()).result()
            pool.submit(lambda: tracer.start_span("lost").end()).result()

    assert [step.name for step in captured.spans] == ["carried"]
    assert sorted(run.job_type for run in captured.runs) == ["lost", "root"]


def test_steps_of_asyncio_tasks_belong_to_the_run(captured, tracer):
    """Context variables travel with tasks."""

    async def step(name):
        with tracer.start_as_current_span(name):
            await asyncio.sleep(0)

    async def main():
        with tracer.start_as_current_span("root"):
            await asyncio.gather(*(step(f"s{n}") for n in range(5)))

    asyncio.run(main())

    assert sorted(step.name for step in captured.spans) == [f"s{n}" for n in range(5)]
    assert len(captured.runs) == 1


def test_step_that_outlives_its_run_is_kept(captured, tracer):
    """Its end comes after the run's; it is a step all the same."""
    root = tracer.start_span("root")
    step = tracer.start_span("late", context=trace.set_span_in_context(root))
    root.end()
    step.end()

    assert [(found.name, found.status) for found in captured.spans] == [("late", "unset")]


def test_child_of_a_remote_parent_is_no_run_unless_it_says_so(captured, tracer):
    """A request of another service is a part of something; an agent invocation or a mark is a run."""
    tracer.start_span("GET /", context=remote_parent()).end()
    tracer.start_span("x", context=remote_parent(), attributes={"gen_ai.operation.name": "invoke_agent"}).end()
    tracer.start_span("y", context=remote_parent(), attributes={"agent.run.id": "marked"}).end()

    assert [run.job_type for run in captured.runs] == ["x", "y"]
    assert captured.runs[1].run_id == "marked"


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "invoke_agent"},
        {"gen_ai.operation.name": "invoke_workflow"},
        {"openinference.span.kind": "AGENT"},
        {"traceloop.span.kind": "workflow"},
        {"traceloop.span.kind": "agent"},
        {"agent.run.job_type": "j"},
    ],
)
def test_agent_invocation_inside_a_run_is_a_run_of_its_own(captured, tracer, attributes):
    """By any convention; its parent is the run above."""
    with tracer.start_as_current_span("GET /", attributes={"agent.run.id": "request"}):
        with tracer.start_as_current_span("step"), tracer.start_as_current_span("agent", attributes=attributes):
            pass

    request, agent = captured.runs
    assert agent.parent_run_id == "request" == request.run_id
    assert [step.name for step in captured.spans] == ["step"]


@pytest.mark.parametrize(
    ("which", "expected"),
    [("root", ["root", "agent", "marked"]), ("agents", ["agent", "marked"]), ("marked", ["marked"])],
)
def test_runs_setting_narrows_what_is_a_run(which, expected):
    """`TELEMETRY_RUNS`."""
    with capture_runs(runs=which) as captured:
        tracer = captured.provider.get_tracer("app")
        tracer.start_span("root").end()
        tracer.start_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}).end()
        tracer.start_span("marked", attributes={"agent.run.product": "p"}).end()

    assert [run.job_type for run in captured.runs] == expected


def test_columns_from_marks_conventions_and_resource(tmp_path):
    """`agent.run.*` beats the convention, which beats the resource; late attributes count."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    resource = Resource({"service.name": "svc", "deployment.environment.name": "prod", "host.name": "h1"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    tracer = provider.get_tracer("app")
    attributes = {"agent.run.environment": "test", "vcs.ref.head.name": "main", "gen_ai.agent.name": "planner"}

    with tracer.start_as_current_span("invoke_agent other", attributes=attributes) as span:
        span.set_attribute("agent.run.items_succeeded", 4)
        span.set_attribute("gen_ai.workflow.name", "nightly")

    run = recorder.states[-1]
    assert (run.environment, run.git_branch, run.host, run.service_name) == ("test", "main", "h1", "svc")
    assert (run.agent_name, run.job_type, run.items_succeeded) == ("planner", "nightly", 4)


def test_agent_name_in_the_spans_name_or_the_service(captured, tracer):
    """Where nothing else gives one."""
    tracer.start_span("invoke_agent planner").end()
    tracer.start_span("create_something planner").end()

    assert [run.agent_name for run in captured.runs] == ["planner", "unknown_service"]


def test_prompts_and_completions_stay_out_unless_asked_for():
    """`capture_content` decides; other attributes are context."""
    attributes = {"gen_ai.input.messages": "secret plan", "llm.input_messages.0.content": "secret plan", "kept": 1}
    left_out = {"gen_ai.input.messages": 2, "llm.input_messages.*.content": 2}
    for capture, expected in ((False, {"kept": 1}), (True, attributes)):
        with capture_runs(capture_content=capture) as captured:
            tracer = captured.provider.get_tracer("app")
            with tracer.start_as_current_span("root", attributes=attributes):
                tracer.start_span("step", attributes=attributes).end()
        context = json.loads(captured.runs[0].context_json)
        assert context == (expected if capture else {**expected, "dropped": left_out})
        assert captured.spans[0].attributes == expected


def test_two_hundred_attributes_and_five_hundred_events_are_all_kept(captured, tracer):
    """The span keeps the last 128 of each; the run's identity, first attributes and every event are safe."""
    with tracer.start_as_current_span("root", attributes={"agent.run.product": "first"}) as span:
        for number in range(200):
            span.set_attribute(f"a{number}", number)
        for number in range(500):
            span.add_event(f"e{number}", {"n": number})

    (run,) = captured.runs
    assert "agent.run.id" not in span.attributes
    assert run.product == "first"
    assert run.run_id == captured.states[0].run_id
    assert [event.event_type for event in captured.events] == [f"e{number}" for number in range(500)]
    assert len(span.events) == 128


def test_odd_marks_are_problems_not_errors(captured, tracer, caplog):
    """An unknown `agent.run.` name, a wrong type, an unusable id: the run is recorded, one warning."""
    tracer.start_span(
        "x", attributes={"agent.run.nonsense": 1, "agent.run.items_failed": -4, "agent.run.id": "a/b"}
    ).end()

    (run,) = captured.runs
    assert (run.status, run.items_failed) == ("success", 0)
    assert "a/b" not in run.run_id
    assert "agent.run.nonsense" in caplog.text


def test_empty_names_are_not_known_and_do_not_poison_the_run(captured, tracer):
    """An empty `agent.run.agent_name` is no name: the next source gives one, and the record is whole."""
    tracer.start_span("work", attributes={"agent.run.agent_name": "", "agent.run.job_type": ""}).end()

    (run,) = captured.runs
    assert (run.agent_name, run.job_type) == ("unknown_service", "work")


@pytest.mark.parametrize("attribute", ["vcs.repository.url.full", "agent.run.git_repo"])
def test_credentials_in_a_repository_named_on_the_span_are_dropped(captured, tracer, attribute):
    """A remote may hold a password; the address of a login without one stays."""
    for given in ("https://user:pa55word@github.com/o/r.git", "git@github.com:o/r.git"):
        with tracer.start_as_current_span("run", attributes={attribute: given}):
            pass
    assert {run.git_repo for run in captured.runs} == {"https://github.com/o/r.git", "git@github.com:o/r.git"}
    assert "pa55word" not in str(captured.runs)


class Names(str, enum.Enum):  # noqa: UP042 - as frameworks define it
    OPERATION = "gen_ai.operation.name"
    AGENT = "gen_ai.agent.name"


def test_names_of_attributes_may_be_members_of_an_enumeration(captured, tracer):
    """A framework that keeps its names so sets them after the start: its agent is a run inside all the same."""
    outer = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.agent.name": "library"}
    with tracer.start_as_current_span("workflow", attributes=outer):
        with tracer.start_as_current_span("inner") as span:
            span.set_attributes({Names.AGENT: "researcher", Names.OPERATION: "invoke_agent"})
    assert [run.agent_name for run in captured.runs if run.parent_run_id] == ["researcher"]
