"""Secrets are masked in the whole record, by every route: columns, names, attributes, payloads, reasons."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode

from otel_agent_telemetry import AgentRunSpanExporter, AgentRunSpanProcessor
from otel_agent_telemetry.column_checks import FREE_TEXT_COLUMNS
from otel_agent_telemetry.columns import SETTABLE_COLUMNS
from otel_agent_telemetry.otel.receiver import SpanReceiver
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.secret_patterns import REDACTED
from otel_agent_telemetry.testing import MemoryRecorder, capture_runs, isolated_config

SECRET = "hunter2"
TEXTS = sorted((SETTABLE_COLUMNS & FREE_TEXT_COLUMNS) - {"metrics_json", "context_json", "labels", "git_commit_source"})
TOKEN = f"ghp_{SECRET}{'a1' * 15}"
URL = f"https://bob:{SECRET}@host/x"


def recorded(recorder: MemoryRecorder) -> str:
    records = [*recorder.states, *recorder.events, *recorder.spans, *recorder.commits]
    return json.dumps([asdict(record) for record in records], default=str)


def trace(tracer) -> None:
    """A run whose every part holds a secret: known by its form, by a name before it, by a key."""
    attributes = {
        **{f"agent.run.{name}": f"see {URL}" for name in TEXTS},
        "note": f"password={SECRET}",
        "api_key": SECRET,
        "process.command_args": ["mysql", "--password", SECRET],
        "process.command_line": f"curl -u a:{SECRET} https://h",
        f"by {URL}": 1,
        "name": "Cookie",
        "value": f"sid={SECRET}",
    }
    with tracer.start_as_current_span(f"fetch {URL}", attributes=attributes) as run:
        run.add_event(f"got {TOKEN}", {"token": SECRET, "text": f"TOKEN={SECRET}"})
        run.add_event("header", {"name": "Cookie", "value": f"sid={SECRET}"})
        with tracer.start_as_current_span(f"call {URL}", attributes={"url.full": URL}) as step:
            step.set_status(Status(StatusCode.ERROR, f"refused {TOKEN}"))
        run.record_exception(ValueError(f"cannot log in: password: {SECRET}"))
        run.set_status(Status(StatusCode.ERROR, f"token={SECRET}"))
    with tracer.start_as_current_span(f"plain {TOKEN}"):
        pass


@pytest.fixture
def spans():
    return InMemorySpanExporter()


def provider_of(*processors) -> TracerProvider:
    resource = Resource({"service.name": f"svc {TOKEN}", "deployment.environment.name": f"key={TOKEN}"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


@pytest.mark.parametrize("way", ["live", "exporter"])
def test_no_part_of_a_recorded_span_holds_a_secret(way, tmp_path, spans):
    """Runs, steps and events, recorded as they happen and exported after their end."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    trace(
        provider_of(
            AgentRunSpanProcessor(recorder=recorder) if way == "live" else SimpleSpanProcessor(spans)
        ).get_tracer("app")
    )
    if way == "exporter":
        AgentRunSpanExporter(recorder=recorder).export(spans.get_finished_spans())
    text = recorded(recorder)
    assert SECRET not in text
    assert text.count(REDACTED) > len(TEXTS)
    assert "mysql" in text


def test_no_part_of_a_received_span_holds_a_secret(spans):
    """Over OTLP."""
    trace(provider_of(SimpleSpanProcessor(spans)).get_tracer("app"))
    receiver = SpanReceiver(runs="root", around=ResourceDefaults({}))
    received = receiver.read(encode_spans(spans.get_finished_spans()))
    text = json.dumps([asdict(node) for node in receiver.nodes_of(received.items, received)], default=str)
    assert SECRET not in text
    assert text.count(REDACTED) > len(TEXTS)


def test_no_part_of_what_the_client_is_given_is_kept_unmasked():
    """Each text column at the start and at the end, other names, events with their types, authors of commits."""
    with capture_runs() as captured:
        client = captured.client
        given = {name: f"{name} {URL}" for name in TEXTS if name not in ("agent_name", "job_type", "trigger_type")}
        run_id = client.start_run(f"agent {TOKEN}", f"job {TOKEN}", f"cli {TOKEN}", **given, other=f"TOKEN={SECRET}")
        client.log_event(run_id, f"seen {TOKEN}", {"n": 1})
        client.log_event(run_id, f"seen {TOKEN}", {"password": SECRET, "argv": ["x", "--token", SECRET]})
        client.log_event("elsewhere", f"seen {TOKEN}", {"env": [{"name": "TOKEN", "value": SECRET}]})
        client.associate_commit(run_id, "a" * 40, "manual", commit_author=f"Ann {TOKEN}")
        client.end_run(run_id, "failed", **{name: f"{name} {URL}" for name in ("output_summary", "error_summary")})
        with pytest.raises(RuntimeError), client.track_run("plain", "job") as run:
            run.set_metrics(input_summary=f"password: {SECRET}")
            raise RuntimeError(f"refused {TOKEN}")
        text = recorded(captured.recorder)
    assert SECRET not in run_id
    assert SECRET not in text
    assert text.count(REDACTED) > len(given)


@pytest.mark.parametrize("way", ["live", "exporter", "otlp"])
def test_a_run_id_that_is_a_secret_is_masked_by_every_way(way, tmp_path, spans):
    """And so is what the runs inside refer to it by."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    processor = AgentRunSpanProcessor(recorder=recorder) if way == "live" else SimpleSpanProcessor(spans)
    tracer = provider_of(processor).get_tracer("app")
    with tracer.start_as_current_span("outer", attributes={"agent.run.id": TOKEN}):
        inner = {"agent.run.id": f"of {TOKEN}", "agent.run.parent_run_id": TOKEN}
        tracer.start_span("inner", attributes=inner).end()
    if way == "exporter":
        AgentRunSpanExporter(recorder=recorder).export(spans.get_finished_spans())
    if way == "otlp":
        receiver = SpanReceiver(runs="root", around=ResourceDefaults())
        found = receiver.read(encode_spans(spans.get_finished_spans()))
        states = [node.state for node in receiver.nodes_of(found.items, found) if node.state]
    else:
        states = [state.to_fields() for state in recorder.states]
    ids = {(state["job_type"], state["run_id"], state.get("parent_run_id")) for state in states}
    assert ids == {("outer", REDACTED, None), ("inner", f"of {REDACTED}", REDACTED)}
    assert SECRET not in json.dumps(states)


def test_a_client_may_use_the_secret_that_it_gave_as_a_run_id(capsys):
    """Its run is ended, gets its events and its commit; nothing that is kept or printed holds the secret."""
    with capture_runs() as captured:
        client = captured.client
        run_id = client.start_run("agent", "job", run_id=TOKEN)
        client.log_event(TOKEN, "checkpoint")
        client.associate_commit(TOKEN, "a1b2c3d", "ci")
        client.end_run(TOKEN, "success")
        client.end_run(TOKEN, "success")
    assert (run_id, [run.status for run in captured.runs]) == (REDACTED, ["success"])
    assert [event.run_id for event in captured.events] == [REDACTED]
    assert SECRET not in recorded(captured.recorder) + "".join(capsys.readouterr())


REPORTED = {
    "guardrails-ai/guardrails 1213": {"llm.invocation_parameters": f'{{"model": "m", "api_key": "sk-{SECRET}"}}'},
    "BerriAI/litellm 13705": {"previous_models": f"[{{'model': 'm', 'user_api_key': '{SECRET}'}}]"},
    "decocms/studio 5628": {"url.full": f"https://generativelanguage.googleapis.com/v1beta/models?key={SECRET}"},
    "adirbenyossef/flusk-dev 67": {"http.request.header.authorization": [f"Bearer {SECRET}"]},
}


@pytest.mark.parametrize("attributes", REPORTED.values(), ids=list(REPORTED))
def test_secrets_that_others_found_in_their_traces_are_masked_or_left_out(attributes):
    """As the issues of these projects describe them; in a run and in a step."""
    with capture_runs() as captured:
        tracer = captured.provider.get_tracer("app")
        with tracer.start_as_current_span("run", attributes=attributes):
            tracer.start_span("step", attributes=attributes).end()
        assert SECRET not in recorded(captured.recorder)
