"""The lines of live spans: the fast way and the long way write the same, whatever a span holds."""

from __future__ import annotations

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import StatusCode

from otel_agent_telemetry import AgentRunSpanProcessor, TelemetryClient
from otel_agent_telemetry.otel import run_lines
from otel_agent_telemetry.otel.live_span import HAS_KNOWN_SHAPE
from otel_agent_telemetry.otel.plain_runs import PlainRuns
from otel_agent_telemetry.otel.plain_steps import PlainSteps
from otel_agent_telemetry.otel.provider import adopt
from otel_agent_telemetry.otel.span_lines import SpanLines
from otel_agent_telemetry.testing import ManualClock, MemoryRecorder, capture_runs, isolated_config
from tests.otel.span_trees import record_tree

START_NS = 1_760_000_000_000_000_000

NAMES = some.sampled_from(
    (
        *(
            "agent.run.agent_name",
            "agent.run.items_failed",
            "agent.run.item_name",
            "agent.run.id",
            "agent.run.nonsense",
        ),
        *("agent.run.metrics", "agent.run.context_json", "agent.run.duration_ms", "agent.run.parent_run_id"),
        *("gen_ai.agent.name", "gen_ai.operation.name", "gen_ai.workflow.name", "gen_ai.usage.input_tokens"),
        *("vcs.repository.url.full", "deployment.environment.name", "service.name", "agent.name", "metadata"),
        *("openinference.span.kind", "gen_ai.request.model", "input.value", "gen_ai.prompt.0", "session.id"),
        *("password", "x-api-key", "record_type", "user", "error.type", "k" * 300),
        *("tenant", "tool_args", "url.full", "dropped", "start_commit"),
    )
)
TEXTS = some.sampled_from(
    (
        *("plain", "", "invoke_agent", "execute_tool", "chat", "researcher", "AGENT", "LLM", "unknown_service:x"),
        *(
            'quote " and \n',
            "grüße ✓",
            "\ud800",
            "sk-abcdefghijklmnopqrstuv",
            "https://u:p@host/r",
            "Bearer abcdefghijkl",
        ),
        *("token=abcdef", "PASSWORD: x", "K=1 \u212aey", '{"record_type":"run"}', "x" * 9_000, "{}", '{"a":1}', "7"),
        *("https://h/a?q=1", '{"content":"hi"}', "x" * 65, "x" * 64),
    )
)
VALUES = some.one_of(
    TEXTS,
    some.integers(-(2**70), 2**70),
    some.floats(),
    some.booleans(),
    some.lists(TEXTS, max_size=2),
    some.dictionaries(TEXTS, some.integers(0, 9), max_size=2),
    some.none(),
)
ATTRIBUTES = some.dictionaries(NAMES, VALUES, max_size=8)
SPANS = some.tuples(some.sampled_from(("work", "invoke_agent x", "grüße", "a" * 300)), ATTRIBUTES, ATTRIBUTES)


class Counting(IdGenerator):
    """The same ids in the same order for every provider."""

    def __init__(self):
        self.last = 0

    def generate_span_id(self):
        self.last += 1
        return self.last

    generate_trace_id = generate_span_id


def lines_of(root, steps, events, status, *, fast):
    """What a tree of spans leaves behind."""
    recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True))
    recorder.commit = "c" * 40
    kept = []
    recorder._store = lambda line, *_args, **_rest: kept.append(line)
    plans = recorder.component(SpanLines).plans
    plans._is_fast, plans.compiled_from = fast, 1
    if not fast:
        recorder.component(PlainRuns).end = lambda *_, **__: False
        recorder.component(PlainSteps).begin = lambda *_: False
    provider = TracerProvider(
        id_generator=Counting(), resource=Resource({"service.name": "svc"}), shutdown_on_exit=False
    )
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    tracer = provider.get_tracer("app")
    name, at_start, later = root
    with tracer.start_as_current_span(
        name, attributes=at_start, start_time=START_NS, end_on_exit=False, set_status_on_exception=False
    ) as span:
        for number, (event, attributes) in enumerate(events):
            span.add_event(event, attributes, START_NS + number)
        for number, (name, attributes, more) in enumerate(steps):
            step = tracer.start_span(name, attributes=attributes, start_time=START_NS + number)
            if more:
                step.set_attributes(more)
            step.set_status(status)
            step.end(START_NS + 10**9)
        span.set_attributes(later)
        span.set_status(status)
        span.end(START_NS + 2 * 10**9)
    return (
        [{**orjson.loads(line), "writer": ""} for line in kept] if not any(b'"wide"' in line for line in kept) else kept
    )


@given(
    SPANS,
    some.lists(SPANS, max_size=3),
    some.lists(
        some.tuples(some.sampled_from(("step", "exception", "record_type", "gen_ai.choice")), ATTRIBUTES), max_size=3
    ),
    some.sampled_from((StatusCode.UNSET, StatusCode.OK, StatusCode.ERROR)),
)
def test_the_fast_and_the_long_way_write_the_same_lines(root, steps, events, status):
    """Identity, columns, context, usage, events and steps: member by member."""
    fast = lines_of(root, steps, events, status, fast=True)
    long = lines_of(root, steps, events, status, fast=False)
    assert [plain(line) for line in fast] == [plain(line) for line in long]
    assert [members(line) for line in fast] == [members(line) for line in long]


SETTINGS = some.dictionaries(
    some.sampled_from(
        (
            *("product", "item_name", "items_failed", "duration_ms", "error_summary", "git_repo", "agent_owner"),
            *("context_json", "metrics_json", "parent_run_id", "start_commit", "unknown", "record_type", "password"),
        )
    ),
    some.one_of(VALUES, some.integers(0, 9), ATTRIBUTES),
    max_size=6,
)


def client_lines_of(at_start, events, status, at_end, *, fast):
    """What a run of the client leaves behind."""
    recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True), clock=ManualClock(START_NS))
    recorder.commit = "c" * 40
    kept = []
    recorder._store = lambda line, *_args, **_rest: kept.append(line)
    plans = recorder.component(SpanLines).plans
    plans._is_fast, plans.compiled_from = fast, 1
    if not fast:
        recorder.component(PlainRuns).end = lambda *_, **__: False
    provider = TracerProvider(
        id_generator=Counting(), resource=Resource({"service.name": "svc"}), shutdown_on_exit=False
    )
    adopt(provider, AgentRunSpanProcessor(recorder=recorder))
    client = TelemetryClient(recorder.config, tracer_provider=provider)
    run_id = client.start_run("researcher", "job", **at_start)
    for event, payload in events:
        client.log_event(run_id, event, payload)
    client.end_run(run_id, status, **at_end)
    return [{**orjson.loads(line), "writer": ""} for line in kept if b'"wide"' not in line]


@given(
    SETTINGS,
    some.lists(some.tuples(some.sampled_from(("step", "exception", "record_type")), ATTRIBUTES), max_size=2),
    some.sampled_from(("success", "failed", "partial")),
    SETTINGS,
)
def test_the_fast_and_the_long_way_write_the_same_lines_for_a_run_of_the_client(at_start, events, status, at_end):
    """What is set by name, what goes to `context_json`, what is given as objects."""
    fast = client_lines_of(at_start, events, status, at_end, fast=True)
    assert fast == client_lines_of(at_start, events, status, at_end, fast=False)
    assert len(fast) == 2 + len(events) or has_wide((at_start, events, at_end))


def members(line):
    """The names in the line of a run or an event, in their order; a run's use stands among its columns or behind them."""
    return (
        [name for name in line if name != "metrics_json"]
        if isinstance(line, dict) and line["record_type"] != "span"
        else None
    )


def has_wide(values):
    """Whether an integer beyond 64 bits is among them: such a line is left out."""
    if isinstance(values, dict):
        return has_wide(list(values.values()))
    if isinstance(values, (list, tuple)):
        return any(map(has_wide, values))
    return isinstance(values, int) and not -(2**63) <= values < 2**64


DRAWN = re.compile(r"(?<=-duplicate-)[0-9a-f]{8}")
"""What is drawn for the id of a run that wants the id of an open one."""


def plain(line):
    """A line without what differs by process, its writer, and what is drawn. A wide one as its bytes without it."""
    if isinstance(line, bytes):
        return line.split(b'"seq":', 1)[1] if b'"wide"' in line else orjson.loads(line)["seq"]
    return {name: DRAWN.sub("", value) if isinstance(value, str) else value for name, value in line.items()}


def test_spans_of_this_sdk_become_live_spans():
    """Else the long way would be taken for every event, and nobody would notice."""
    assert HAS_KNOWN_SHAPE


@pytest.mark.parametrize("changed", [1, True, 1.0])
def test_a_value_that_equals_the_one_before_is_stored_as_its_own_type(changed):
    """1, True and 1.0 are equal and are not the same JSON."""
    recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True))
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    with provider.get_tracer("app").start_as_current_span("work", attributes={"x": 1}) as span:
        span.set_attribute("x", changed)
    assert recorder.states[-1].context_json == orjson.dumps({"x": changed}).decode()


def test_a_span_that_is_renamed_is_stored_under_its_last_name():
    """As every exporter of it tells; instrumentations of web frameworks rename their spans."""
    recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True))
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("GET") as root:
        with tracer.start_as_current_span("step") as step:
            step.update_name("better step")
        root.update_name("GET /things/{id}")
    assert recorder.spans[-1].name == "better step"
    assert recorder.states[-1].job_type == "GET /things/{id}"


def test_a_run_names_the_commit_that_it_began_on(tmp_path):
    """Not the one that the agent makes meanwhile; a process's first run, begun before any was read, has the first."""
    recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True))
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("first") as first:
        recorder.first_commit = recorder.commit = "a" * 40
        first.set_attribute("x", 1)
    with tracer.start_as_current_span("second") as second:
        recorder.commit = "b" * 40
        second.set_attribute("x", 1)
    ended = [state for state in recorder.states if state.status == "success"]
    assert [state.start_commit for state in ended] == ["a" * 40, "a" * 40]


def test_a_state_is_whole_when_another_thread_changes_the_run_while_it_is_written():
    """A step that names the agent, or of which content is left out, asks for new columns at any moment."""
    recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True))
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("root") as root:
        tracer.start_span("step", attributes={"gen_ai.operation.name": "execute_tool"}).end()
        run = recorder.active.get(root.attributes["agent.run.id"])
        used = run.usage.shown()

        class Changing:
            """Usage that is read while another thread renames the run."""

            used = True

            def set_run_total(self, _view):
                pass

            def shown(self):
                run.encoded = b""
                return used

        run.usage = Changing()
    assert [state.run_id for state in recorder.states] == [run.run_id] * 2
    assert recorder.states[-1].status == "success"


def test_what_a_run_used_is_written_whichever_way_its_columns_are_made():
    """The first runs with the same names go the long way and later ones the fast way; the outer one here both."""
    marked = {"agent.run.product": "p"}
    tree = [(marked, None, True), ({}, 0, False), (marked, 0, False), (marked, 0, True), ({}, 3, False)]
    with capture_runs() as captured:
        record_tree(captured.provider.get_tracer("app"), tree)
    used = {run.job_type: run.metrics_json for run in captured.runs}
    assert used == {"span 0": '{"gen_ai":{"steps":1}}', "span 2": None, "span 3": '{"gen_ai":{"steps":1}}'}


@pytest.mark.parametrize("code", [StatusCode.UNSET, StatusCode.ERROR])
def test_a_secret_in_an_agent_s_name_is_masked_in_every_state(code):
    """Also when a generated function encodes the columns anew at the end."""
    recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True))
    recorder.component(SpanLines).plans.compiled_from = 1
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    for _ in range(3):
        span = provider.get_tracer("app").start_span("work", attributes={"gen_ai.agent.name": "sk-" + "a1b2" * 10})
        span.set_attribute("done", 1)
        span.set_status(code)
        span.end()
    assert len(recorder.states) == 6
    assert not any("a1b2a1b2" in state.agent_name for state in recorder.states)


def test_the_columns_of_a_runs_end_are_made_once(captured, monkeypatch):
    """Frameworks set most attributes just before the end, on runs that have used tokens."""
    made = []
    run_columns = run_lines.run_columns
    monkeypatch.setattr(run_lines, "run_columns", lambda *view, **more: made.append(view) or run_columns(*view, **more))
    tracer = captured.provider.get_tracer("framework")
    with tracer.start_as_current_span("workflow") as root:
        with tracer.start_as_current_span("chat", attributes={"llm.token_count.prompt": 3, "llm.model_name": "m"}):
            pass
        root.set_attributes({"openinference.span.kind": "AGENT", "llm.token_count.prompt": 3, "input.value": "hello"})
        made.clear()

    assert len(made) == 1
    assert orjson.loads(captured.runs[0].metrics_json)["gen_ai"]["input_tokens"] == 3
