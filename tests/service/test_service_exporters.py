"""Programs with OpenTelemetry's own exporter, and with our processor as well, against the real service."""

from __future__ import annotations

import pytest
from exporting import assert_the_run_is_there, exporter_to, get, one_agent_run, one_finished_run, provider_with
from on_disk import eventually
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otlp_requests import JSON, otlp_json, response_of, rows_of, send_body
from service_cases import listed

from otel_agent_telemetry.otel.processor import AgentRunSpanProcessor
from otel_agent_telemetry.testing import isolated_config


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
    event_id, root, finished = one_finished_run(fails=True)
    assert response_of(send_body(service, otlp_json(encode_spans(finished)), JSON, compression="gzip")) == (0, "")
    assert_the_run_is_there(service, event_id, root, "failed")
    before = rows_of(service)
    assert exporter_to(service).export(finished) is SpanExportResult.SUCCESS
    assert rows_of(service) == before


def test_the_exporter_gets_through_with_the_token(sqlite_settings, serving):
    """As a header of the exporter's; without it the export fails."""
    service = serving(sqlite_settings.with_(api_auth_enabled=True, api_auth_token="known"))
    *_, finished = one_finished_run()
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
            assert provider.force_flush()
    actual = get(service, event_id)
    assert actual["run_id"] == root.attributes["agent.run.id"]
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
    exporter = exporter_to(service)
    assert exporter.export(kept.get_finished_spans()) is SpanExportResult.FAILURE
