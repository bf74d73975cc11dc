"""The fast way of a step's start and end: when it is taken, and that it writes what the long way does."""

from __future__ import annotations

import orjson
import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_agent_telemetry import AgentRunSpanProcessor
from otel_agent_telemetry.otel import attribute_plan
from otel_agent_telemetry.otel.plain_steps import PlainSteps
from otel_agent_telemetry.otel.span_lines import SpanLines
from otel_agent_telemetry.testing import MemoryRecorder, isolated_config
from tests.otel.test_run_lines import START_NS, Counting

TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look", "step": 1}


def steps_of(attributes, *, fast=True, change=None, name="work", kind=SpanKind.INTERNAL, around=None):
    """The lines of a step, the last of three that are alike; whether it began and ended the fast way; its run's use."""
    recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True))
    kept, ways = [], []
    store = recorder._store
    recorder._store = lambda line, *rest, **how: kept.append(line) or store(line, *rest, **how)
    plans = recorder.component(SpanLines).plans
    plans._is_fast, plans.compiled_from = fast, 1
    steps = recorder.component(PlainSteps)
    begin, end = steps.begin if fast else lambda *_: False, steps.end
    steps.begin = lambda *given: ways.append(begin(*given)) or ways[-1]
    steps.end = lambda *given: ways.append(end(*given)) or ways[-1]
    provider = TracerProvider(id_generator=Counting(), resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("root", start_time=START_NS, end_on_exit=False) as root:
        context = trace.set_span_in_context(around(tracer) if around else root)
        for _ in range(3):
            step = tracer.start_span(name, context, kind, attributes, start_time=START_NS + 1)
            if change:
                change(step)
            step.end(START_NS + 2_000_000)
    root.end(START_NS + 3_000_000)
    lines = [orjson.loads(line) | {"writer": ""} for line in kept if b'"record_type":"span"' in line]
    return lines[-2:], ways[-2:], recorder.states[-1].metrics_json


def ended_step(tracer):
    """A step that has ended: what begins below it belongs to what is around it."""
    step = tracer.start_span("before")
    step.end(START_NS + 1)
    return step


@pytest.mark.parametrize(
    ("attributes", "more"),
    [
        (TOOL, {}),
        ({}, {}),
        ({"size": 7, "ratio": 0.5, "ok": True}, {"kind": SpanKind.CLIENT}),
        ({"note": "short", "other": "texts", "a": 1, "b": 2, "c": 3}, {"name": "grüße"}),
        (TOOL, {"change": lambda step: step.set_status(StatusCode.ERROR)}),
        (TOOL, {"change": lambda step: step.set_status(StatusCode.OK)}),
        (TOOL, {"around": ended_step}),
        (TOOL, {"change": lambda step: step.add_event("e", {"n": 1}, START_NS)}),
    ],
)
def test_a_plain_step_takes_the_fast_way_and_leaves_the_same_lines(attributes, more):
    """Tools and other work, of any kind and status, also below a step that has ended."""
    lines, ways, used = steps_of(attributes, **more)
    assert ways == [True, True]
    assert (lines, [False, False], used) == steps_of(attributes, fast=False, **more)


@pytest.mark.parametrize(
    ("attributes", "more", "ways"),
    [
        ({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3}, {}, [True, False]),
        (TOOL, {"change": lambda step: step.set_attribute("size", 1)}, [True, False]),
        (TOOL, {"change": lambda step: step.set_status(Status(StatusCode.ERROR, "no"))}, [True, False]),
        ({"url.full": "https://host/path?key=value"}, {}, [False, False]),
        ({"note": "x" * 65}, {}, [False, False]),
        ({"note": '{"role": "user"}'}, {}, [False, False]),
        ({"note": "Bearer abcdefghijkl"}, {}, [False, False]),
        ({"password": "x"}, {}, [False, False]),
        ({"list": [1, 2]}, {}, [False, False]),
        ({"size": 2**70}, {}, [False, False]),
        ({"size": 7}, {"name": "n" * 300}, [False, False]),
    ],
)
def test_other_steps_take_the_long_way(attributes, more, ways):
    """Model calls, late attributes, content, secrets, and what JSON has no plain form for."""
    lines, taken, used = steps_of(attributes, **more)
    assert taken == ways
    if 2**70 not in attributes.values():
        assert (lines, [False, False], used) == steps_of(attributes, fast=False, **more)


def test_texts_that_are_left_out_of_a_step_are_not_searched_for_secrets(monkeypatch):
    """Prompts and completions are long: the search would cost more than all else that a step does."""
    searched = []

    def is_harmless(text):
        searched.append(text)
        return True

    monkeypatch.setattr(attribute_plan, "is_harmless", is_harmless)
    said = {"input.value": "a prompt " * 500, "openinference.span.kind": "CHAIN", "size": 3}
    lines, _, _ = steps_of({}, change=lambda step: step.set_attributes(said))

    assert lines[1]["attributes"] == {"openinference.span.kind": "CHAIN", "size": 3}
    assert not any("a prompt" in text for text in searched)


@pytest.mark.parametrize("secret", ["password=hunter2hunter2", "a prompt"])
def test_what_is_kept_beside_texts_that_are_left_out_is_cleaned_as_ever(secret):
    """A secret in a text that is kept is masked, one in a text that is left out is not stored."""
    said = {"input.value": secret, "note": secret, "size": 3}
    change = {"change": lambda step: step.set_attributes(said)}
    lines, _, used = steps_of({}, **change)

    assert "hunter2" not in str(lines)
    assert (lines, used) == steps_of({}, fast=False, **change)[::2]
