"""Users and labels of runs, live and over OTLP: the same columns by either way."""

from __future__ import annotations

import json

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_agent_telemetry.otel.ended_spans import ended_run
from otel_agent_telemetry.otel.people_and_labels import digest_of
from otel_agent_telemetry.otel.processor import AgentRunSpanProcessor
from otel_agent_telemetry.otel.spans import view_of
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.testing import MemoryRecorder, isolated_config


def recorded(attributes, resource=None, **settings):
    """The run of a span, as the processor recorded it and as its end alone gives it; and the recorder."""
    recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True, **settings))
    provider = TracerProvider(resource=Resource(resource or {}), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("work", attributes=attributes) as span:
        with tracer.start_as_current_span("step", attributes=attributes):
            pass
        span.add_event("gen_ai.choice", attributes)
    around = ResourceDefaults.of(recorder.config, {})
    ended = ended_run(view_of(span), run_id="r", exceptions=[], around=around, problems=[])
    return recorder.states[-1], ended, recorder


@pytest.mark.parametrize("name", ["user.id", "enduser.id", "User.ID", "langfuse.user.id", "user_id"])
@pytest.mark.parametrize("user", ["ann@example.com", 4711])
def test_who_used_an_agent_is_stored_nowhere_by_default(name, user):
    """Neither in the column nor under the attribute's own name, in run, step or event."""
    run, ended, recorder = recorded({name: user, "size": 1})
    assert run.user_id is None
    assert "user_id" not in ended
    kept = [run.context_json, ended["context_json"], recorder.spans[-1].attributes, recorder.events[-1].payload]
    assert not any(str(user) in str(one) for one in kept)
    assert json.loads(run.context_json)["size"] == 1


def test_a_user_may_be_kept_as_a_digest():
    """The same for the same key, another for another key, and the name is stored nowhere."""
    run, ended, recorder = recorded({"user.id": "ann"}, user_id="hash", user_id_key="k")
    assert run.user_id == ended["user_id"] == digest_of("ann", "k")
    assert len({digest_of("ann", "k"), digest_of("ann", ""), digest_of("bob", "k")}) == 3
    assert "ann" not in f"{run} {recorder.spans} {recorder.events}"


@pytest.mark.parametrize(("attributes", "resource"), [({"enduser.id": "ann"}, {}), ({}, {"user.id": "ann"})])
def test_a_user_may_be_kept_as_it_is(attributes, resource):
    """From the span, or for all runs of a program from its resource."""
    run, ended, _ = recorded(attributes, resource, user_id="keep")
    assert run.user_id == ended["user_id"] == "ann"


def test_a_user_that_the_application_gives_by_name_is_kept():
    """It is its own record."""
    run, ended, _ = recorded({"agent.run.user_id": "ann"})
    assert run.user_id == ended["user_id"] == "ann"


@pytest.mark.parametrize(
    ("attributes", "labels"),
    [
        ({}, {"team": "core", "tier": "2"}),
        ({"agent.label.team": "web", "agent.label.a.b": True}, {"team": "web", "tier": "2", "a.b": "True"}),
        ({"agent.run.labels": '{"team":"own"}'}, {"team": "own", "tier": "2"}),
        (
            {"agent.label.api_key": "sk-abcdefghijklmnopqrstuvwx"},
            {"team": "core", "tier": "2", "api_key": "***REDACTED***"},
        ),
    ],
)
def test_labels_come_from_the_resource_the_span_and_the_application(attributes, labels):
    """Each counts before those before it; secrets are masked."""
    run, ended, _ = recorded(attributes, {"agent.label.team": "core", "agent.label.tier": "2"})
    assert json.loads(run.labels) == json.loads(ended["labels"]) == labels
    assert "label" not in (run.context_json or "")


def test_a_session_and_an_environment_have_several_names():
    """The older name of the environment gives it too; of two names the first of the table counts."""
    run, ended, _ = recorded({"session.id": "s"}, {"deployment.environment": "staging"})
    assert (run.session_id, run.environment) == (ended["session_id"], ended["environment"]) == ("s", "staging")
    run, ended, _ = recorded({"session.id": "s", "gen_ai.conversation.id": "c"})
    assert run.session_id == ended["session_id"] == "c"
