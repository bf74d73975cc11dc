"""The fast way of a run's start and end: when it is taken, and that what it leaves behind is what the long way does."""

from __future__ import annotations

import orjson
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import StatusCode

from otel_agent_telemetry import AgentRunSpanProcessor
from otel_agent_telemetry.otel.live_span import opened_of
from otel_agent_telemetry.otel.plain_runs import PlainRuns
from otel_agent_telemetry.otel.span_lines import SpanLines
from otel_agent_telemetry.testing import MemoryRecorder, isolated_config

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "researcher", "tier": "gold", "retry": 2}


class Fixed(IdGenerator):
    """Ids that repeat, or that are longer than the specification has them."""

    def __init__(self, trace_id, span_id):
        self.ids = trace_id, span_id

    def generate_trace_id(self):
        return self.ids[0]

    def generate_span_id(self):
        return self.ids[1]


class Seen:
    """A recorder's spans, and which ways they took."""

    def __init__(self, *, fast=True, limits=None, ids=None):
        self.recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True))
        self.lines = []
        store = self.recorder._store
        self.recorder._store = lambda line, *rest, **kept: self.lines.append(line) or store(line, *rest, **kept)
        plans = self.recorder.component(SpanLines).plans
        plans._is_fast, plans.compiled_from = fast, 1
        plain = self.recorder.component(PlainRuns)
        self.begun, self.ended = [], []
        begin, end = plain.begin, plain.end
        plain.begin = lambda *given: self.begun.append(begin(*given)) or self.begun[-1]
        plain.end = lambda *given, **how: self.ended.append(fast and end(*given, **how)) or self.ended[-1]
        provider = TracerProvider(
            resource=Resource({"service.name": "svc"}), span_limits=limits, id_generator=ids, shutdown_on_exit=False
        )
        provider.add_span_processor(AgentRunSpanProcessor(recorder=self.recorder))
        self.tracer = provider.get_tracer("app")


@pytest.mark.parametrize("attributes", [AGENT, {"gen_ai.agent.name": "a"}, {}, {"route": "/x", "size": 7}])
@pytest.mark.parametrize("with_event", [False, True])
def test_a_plain_run_takes_the_fast_way_and_leaves_the_same_lines(attributes, with_event):
    """An agent's run, and a root that names no agent; with the steps of the process's own ids set apart."""
    lines = []
    for fast in (True, False):
        seen = Seen(fast=fast, ids=Fixed(1, 2))
        span = seen.tracer.start_span("work", attributes=attributes, start_time=10**18)
        if with_event:
            span.add_event("step", {"number": 1}, 10**18 + 1)
        span.end(10**18 + 2)
        assert (seen.begun, seen.ended) == ([fast], [fast])
        lines.append([line.replace(seen.recorder.writer.encode(), b"") for line in seen.lines])
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda span: span.set_attribute("agent.run.status", "partial"), "partial"),
        (lambda span: span.set_status(StatusCode.ERROR, "no"), "failed"),
        (lambda span: span.set_status(StatusCode.OK), "success"),
        (lambda span: span.record_exception(ValueError("x")), "success"),
    ],
)
def test_a_run_with_something_to_add_at_its_end_takes_the_long_way(change, status):
    """A status, an exception."""
    seen = Seen()
    with seen.tracer.start_as_current_span("invoke_agent researcher", attributes=AGENT) as span:
        change(span)
    assert seen.begun == [True]
    assert not any(seen.ended)
    assert seen.recorder.states[-1].status == status or seen.recorder.states[-1].error_summary


NAMED_TWICE = {"agent.run.agent_name": "a", "gen_ai.agent.name": "b"}


@pytest.mark.parametrize(
    ("attributes", "change"),
    [
        (AGENT, lambda span: span.set_attribute("tier", "silver")),
        (AGENT, lambda span: span.set_attributes({"agent.run.items_failed": 2, "size": 8.5})),
        (AGENT, lambda span: span.set_attributes({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 2})),
        (NAMED_TWICE, lambda span: span.set_attribute("gen_ai.agent.name", "other")),
        (NAMED_TWICE, lambda span: span.update_name("other")),
        ({"size": 7}, lambda span: span.set_attribute("status_code", 200)),
        ({"size": 7}, lambda span: span.update_name("GET /things")),
    ],
)
def test_a_run_with_attributes_set_since_its_start_ends_the_fast_way(attributes, change):
    """Most programs set results, and what was used, before the end."""
    lines = []
    for fast in (True, False):
        seen = Seen(fast=fast, ids=Fixed(1, 2))
        span = seen.tracer.start_span("work", attributes=attributes, start_time=10**18)
        change(span)
        span.end(10**18 + 2)
        assert seen.ended == [fast]
        lines.append([orjson.loads(line) | {"writer": ""} for line in seen.lines])
    assert lines[0] == lines[1]


@pytest.mark.parametrize("status", ["partial", "success"])
def test_a_status_that_the_span_carries_is_judged_by_the_long_way(status):
    """The attribute may come with others that alone would be plain."""
    seen = Seen()
    with seen.tracer.start_as_current_span("work", attributes=AGENT) as span:
        span.set_attributes({"agent.run.status": status, "size": 8})
    assert seen.ended == [False]
    assert seen.recorder.states[-1].status == status


@pytest.mark.parametrize(
    "seen",
    [
        Seen(limits=SpanLimits(max_span_attributes=4)),
        Seen(limits=SpanLimits(max_span_attribute_length=3)),
    ],
    ids=["no room for the id", "texts are cut"],
)
def test_spans_that_the_fast_way_cannot_take_are_recorded(seen):
    """The long way stands behind each of its conditions."""
    seen.tracer.start_span("work", attributes=AGENT).end()
    assert seen.begun == [False]
    assert [state.status for state in seen.recorder.states] == ["running", "success"]


def test_an_id_that_is_longer_than_the_specification_has_it_takes_the_long_way():
    """A generator of the application's own may give one; no store takes such a run."""
    seen = Seen(ids=Fixed(1 << 130, 2))
    seen.tracer.start_span("work", attributes=AGENT).end()
    assert seen.begun == [False]


def test_of_two_open_runs_with_one_id_the_second_gets_another():
    """Seeded ids give the same generated id: the fast way leaves that to the long one, which counts it."""
    seen = Seen(ids=Fixed(1, 2))
    first = seen.tracer.start_span("work", attributes=AGENT, start_time=10**18)
    second = seen.tracer.start_span("work", attributes=AGENT, start_time=10**18)
    second.end()
    first.end()
    assert seen.begun == [True, False]
    assert len({state.run_id for state in seen.recorder.states}) == 2
    assert seen.recorder.active.metrics.duplicates_detected == 1


def test_the_span_carries_its_run_id_and_is_the_sdk_s_own_again_after_its_end():
    """As after the long way."""
    seen = Seen()
    span = seen.tracer.start_span("work", attributes=AGENT)
    kind = type(span).__mro__[1]
    span.end()
    assert span.attributes["agent.run.id"] == seen.recorder.states[0].run_id
    assert type(span) is kind
    assert orjson.loads(seen.lines[1])["run_id"] == span.attributes["agent.run.id"]


def test_runs_of_two_providers_by_turns_take_the_fast_way():
    """Each provider's resource has plans of its own: a program may use its provider beside the client's."""
    seen = Seen()
    other = TracerProvider(resource=Resource({"service.name": "other"}), shutdown_on_exit=False)
    other.add_span_processor(AgentRunSpanProcessor(recorder=seen.recorder))
    seen.recorder.component(SpanLines).plans.compiled_from = 2
    for tracer in (seen.tracer, other.get_tracer("app")) * 2:
        tracer.start_span("work", attributes={"a": 1}).end()
    assert seen.begun[-2:] == [True, True]
    assert [state.service_name for state in seen.recorder.states[-4::2]] == ["svc", "other"]


def test_an_open_span_has_each_of_its_attributes_from_the_beginning():
    """None has a default on the class; only a step has a list of what is inside it."""
    seen = Seen()
    with seen.tracer.start_as_current_span("work", attributes=AGENT) as span:
        opened = opened_of(span)
    assert not hasattr(opened, "__dict__")
    assert {name for name in type(opened).__slots__ if not hasattr(opened, name)} == {"inside"}
