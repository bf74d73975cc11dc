"""Programs with OpenTelemetry's own exporter, and with our processor as well, against the real service."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest
from on_disk import eventually
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otlp_requests import JSON, otlp_json, response_of, rows_of, send_body
from service_cases import listed

from otel_agent_telemetry.event_id import span_event_id
from otel_agent_telemetry.otel.processor import AgentRunSpanProcessor
from otel_agent_telemetry.testing import isolated_config

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.response.model": "m-1",
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 3,
    "gen_ai.input.messages": "what was said",
}


@contextmanager
def provider_with(*processors):
    """An application's provider, shut down at the end."""
    resource = Resource({"service.name": "shop", "deployment.environment.name": "prod", "host.name": "h-1"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    yield provider
    provider.shutdown()


def exporter_to(service, **more):
    return OTLPSpanExporter(endpoint=f"{service.url}/v1/traces", timeout=30, **more)


def one_agent_run(provider, *, fails=False):
    """What an instrumented agent leaves: a root with an event, a model call, a tool that raises; its ids."""
    tracer = provider.get_tracer("app")
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "buyer", "basket": ["a", "b"]}
    with tracer.start_as_current_span("invoke_agent buyer", attributes=attributes) as root:
        root.add_event("planned", {"steps": 2})
        with tracer.start_as_current_span("chat m-1", attributes=CHAT, kind=trace.SpanKind.CLIENT):
            pass
        try:
            with tracer.start_as_current_span("execute_tool pay", attributes={"gen_ai.operation.name": "execute_tool"}):
                raise LookupError("no such card")
        except LookupError as problem:
            if fails:
                root.record_exception(problem)
                root.set_status(trace.StatusCode.ERROR, str(problem))
    context = root.get_span_context()
    return span_event_id(f"{context.trace_id:032x}", f"{context.span_id:016x}"), root


def get(service, event_id, below=""):
    answer = service.client.get(f"/api/v1/runs/{event_id}{below}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_the_run_is_there(service, event_id, root, status):
    """One row, with what a person who reads the program expects."""
    told = get(service, event_id)
    wanted = {
        "agent_name": "buyer",
        "job_type": "invoke_agent buyer",
        "status": status,
        "service_name": "shop",
        "environment": "prod",
        "host": "h-1",
        "trace_id": f"{root.get_span_context().trace_id:032x}",
        "parent_run_id": None,
        "duration_ms": (root.end_time - root.start_time) // 1_000_000,
        "context_json": {"basket": ["a", "b"]},
        "error_summary": "LookupError: no such card" if status == "failed" else None,
    }
    assert {name: told[name] for name in wanted} == wanted
    assert ("raise LookupError" in (told["error_details"] or "")) == (status == "failed")
    assert told["metrics_json"]["gen_ai"] == {
        "child_errors": 1,
        "had_errors": True,
        "input_tokens": 12,
        "model_calls": 1,
        "models": ["m-1"],
        "output_tokens": 3,
        "steps": 2,
        "tool_calls": 1,
    }
    steps = get(service, event_id, "/spans")
    assert [(step["name"], step["kind"], step["status"]) for step in steps] == [
        ("chat m-1", "client", "unset"),
        ("execute_tool pay", "internal", "error"),
    ]
    assert "gen_ai.input.messages" not in steps[0]["attributes"]
    events = [event["event_type"] for event in get(service, event_id, "/events")]
    assert events == ["planned", "exception", *["exception"] * (status == "failed")]
    assert len(listed(service)) == 1


@pytest.mark.parametrize("compression", list(Compression))
def test_the_official_exporter_is_understood(service, compression):
    """In protobuf with each compression, in batches as they come."""
    with provider_with(BatchSpanProcessor(exporter_to(service, compression=compression))) as provider:
        event_id, root = one_agent_run(provider)
        assert provider.force_flush()
        assert_the_run_is_there(service, event_id, root, "success")


def test_the_official_exporter_span_by_span(service):
    """Each span in a request of its own, children before their root."""
    with provider_with(SimpleSpanProcessor(exporter_to(service))) as provider:
        event_id, root = one_agent_run(provider, fails=True)
        assert_the_run_is_there(service, event_id, root, "failed")


def test_the_official_encoding_as_json(service):
    """The SDK's spans as OTLP JSON, whose rule for ids is its own; the rows are those of protobuf."""
    kept = InMemorySpanExporter()
    with provider_with(SimpleSpanProcessor(kept)) as provider:
        event_id, root = one_agent_run(provider, fails=True)
    finished = kept.get_finished_spans()
    assert response_of(send_body(service, otlp_json(encode_spans(finished)), JSON, compression="gzip")) == (0, "")
    assert_the_run_is_there(service, event_id, root, "failed")
    before = rows_of(service)
    assert exporter_to(service).export(finished) is SpanExportResult.SUCCESS
    assert rows_of(service) == before


def test_the_exporter_gets_through_with_the_token(sqlite_settings, serving):
    """As a header of the exporter's; without it the export fails."""
    service = serving(sqlite_settings.with_(api_auth_enabled=True, api_auth_token="known"))
    kept = InMemorySpanExporter()
    with provider_with(SimpleSpanProcessor(kept)) as provider:
        one_agent_run(provider)
    finished = kept.get_finished_spans()
    assert exporter_to(service).export(finished) is SpanExportResult.FAILURE
    assert exporter_to(service, headers={"authorization": "Bearer known"}).export(finished) is SpanExportResult.SUCCESS
    assert len(listed(service)) == 1


@pytest.mark.parametrize("exporter_first", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_our_processor_and_an_exporter_to_one_service_give_one_row(service, tmp_path, exporter_first, fails):
    """Whichever arrives first: the same event id, the same run id, the steps of the exporter, nothing twice."""
    config = isolated_config(tmp_path / "agent", api_url=service.url)
    exporting = BatchSpanProcessor(exporter_to(service), schedule_delay_millis=3_600_000)
    with provider_with(AgentRunSpanProcessor(config), exporting) as provider:
        event_id, root = one_agent_run(provider, fails=fails)
        if exporter_first:
            assert provider.force_flush()
        eventually(lambda: ended(service, event_id))
        if not exporter_first:
            assert get(service, event_id, "/spans") == []
            assert provider.force_flush()
    told = get(service, event_id)
    assert told["run_id"] == root.attributes["agent.run.id"]
    assert_the_run_is_there(service, event_id, root, "failed" if fails else "success")


def ended(service, event_id):
    answer = service.client.get(f"/api/v1/runs/{event_id}")
    return answer.status_code == 200 and answer.json()["status"] != "running"


def test_a_run_over_the_limit_of_a_body_is_refused_not_repeated_for_ever(sqlite_settings, serving):
    """413 is final for the exporter: it does not keep its program waiting."""
    service = serving(sqlite_settings.with_(api_max_body_bytes=1024))
    kept = InMemorySpanExporter()
    with provider_with(SimpleSpanProcessor(kept)) as provider:
        provider.get_tracer("app").start_span("big", attributes={"x": "y" * 5000}).end()
    began = time.monotonic()
    assert exporter_to(service).export(kept.get_finished_spans()) is SpanExportResult.FAILURE
    assert time.monotonic() - began < 10
