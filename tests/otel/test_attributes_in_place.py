"""The attributes of a client's span: the same for everybody, whoever looks at them and when."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, Sampler, SamplingResult

from otel_agent_telemetry import AgentRunSpanProcessor, TelemetryClient
from otel_agent_telemetry.otel.attributes_in_place import is_first_to_look
from otel_agent_telemetry.otel.provider import adopt
from otel_agent_telemetry.testing import MemoryRecorder, isolated_config

SETTINGS = {"product": "p", "items_discovered": 3, "context_json": {"a": 1}, "metrics_json": None, "own": "x"}
ATTRIBUTES = {
    "gen_ai.operation.name": "invoke_agent",
    "gen_ai.agent.name": "researcher",
    "agent.run.product": "p",
    "agent.run.items_discovered": 3,
    "agent.run.agent_name": "researcher",
    "agent.run.job_type": "job",
    "agent.run.trigger_type": "cli",
}


class Looking(SpanProcessor):
    """Notes the attributes that spans start with, as a processor that exports open spans does."""

    def __init__(self):
        self.seen = []

    def on_start(self, span, parent_context=None):
        self.seen.append(dict(span.attributes))


class Choosing(Sampler):
    """Notes the attributes that it decides by."""

    def __init__(self):
        self.seen = []

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None):
        self.seen.append(dict(attributes or {}))
        return SamplingResult(ALWAYS_ON.should_sample(None, 0, "").decision, attributes)

    def get_description(self):
        return "notes attributes"


def exported_by(before=(), after=(), **of_provider):
    """The attributes, but for id and status, of a client's span beside processors of the application."""
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False, **of_provider)
    exporter = InMemorySpanExporter()
    for processor in before:
        provider.add_span_processor(processor)
    recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True))
    ours = AgentRunSpanProcessor(recorder=recorder)
    adopt(provider, ours)
    for processor in (*after, SimpleSpanProcessor(exporter)):
        provider.add_span_processor(processor)
    client = TelemetryClient(recorder.config, tracer_provider=provider)
    with client.track_run("researcher", "job", **SETTINGS):
        pass
    assert [state.product for state in recorder.states] == [SETTINGS["product"]] * 2
    (span,) = exporter.get_finished_spans()
    put_in_place = is_first_to_look(recorder, provider.get_tracer("any"))
    return put_in_place, {key: value for key, value in span.attributes.items() if key[10:] not in ("id", "status")}


@pytest.mark.parametrize("sampler", [ALWAYS_ON, DEFAULT_ON])
def test_attributes_that_nobody_looks_at_are_put_in_place_by_our_processor(sampler):
    """What is exported, and what a processor behind ours sees, is the same."""
    after = Looking()
    assert exported_by(after=[after], sampler=sampler) == (True, ATTRIBUTES)
    assert [{**seen, "agent.run.id": 0} for seen in after.seen] == [{**ATTRIBUTES, "agent.run.id": 0}]


def test_a_processor_before_ours_and_a_sampler_see_the_attributes_when_the_span_starts():
    """Then the span starts with them, and OpenTelemetry cleans them."""
    before, sampler = Looking(), Choosing()
    assert exported_by(before=[before]) == (False, ATTRIBUTES)
    assert exported_by(sampler=sampler) == (False, ATTRIBUTES)
    assert before.seen == sampler.seen == [ATTRIBUTES]


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (SpanLimits(max_span_attribute_length=2), {**ATTRIBUTES, "gen_ai.agent.name": "re"}),
        (SpanLimits(max_span_attributes=3), dict(list(ATTRIBUTES.items())[-1:])),
    ],
)
def test_limits_of_the_provider_hold(limits, kept):
    """Texts are cut and the oldest attributes leave, as OpenTelemetry has it."""
    _, attributes = exported_by(span_limits=limits)
    assert attributes.keys() == kept.keys()
    assert attributes.get("gen_ai.agent.name") == kept.get("gen_ai.agent.name")
