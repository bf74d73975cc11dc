"""Log records and metrics of programs through real collectors: events of their runs, figures of their sessions."""

from __future__ import annotations

import json
import logging

import httpx
import pytest
from on_disk import eventually
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as LogsOverGrpc
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from sqlalchemy import select

from otel_agent_telemetry.storage.engine import make_read_engine, reading
from otel_agent_telemetry.storage.session_metrics import figures_of_session
from otel_agent_telemetry.storage.tables import run_events
from otel_agent_telemetry.testing import isolated_config

RESOURCE = Resource({"service.name": "shop", "session.id": "s-1"})
ROUTES = [["local.yaml"], ["agent.yaml", "gateway.yaml"]]


def stored(base):
    """Type → whether it has a run, payload, of each event; and the figures of the session."""
    engine = make_read_engine(isolated_config(base))
    with reading(engine, "reading") as connection:
        rows = connection.execute(select(run_events.c.event_type, run_events.c.event_id, run_events.c.payload_json))
        events = {name: (bool(event_id), json.loads(payload)) for name, event_id, payload in rows}
        figures = figures_of_session(connection, "s-1")
    engine.dispose()
    return events, figures


def send_everything(first):
    """A program with a run, its log records over both protocols, and metrics of two kinds."""
    spans, logs = (
        TracerProvider(resource=RESOURCE, shutdown_on_exit=False),
        LoggerProvider(RESOURCE, shutdown_on_exit=False),
    )
    spans.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{first.url}/v1/traces")))
    logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{first.url}/v1/logs")))
    logs.add_log_record_processor(SimpleLogRecordProcessor(LogsOverGrpc(first.grpc_address, insecure=True)))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{first.url}/v1/metrics"))
    meters = MeterProvider([reader], resource=RESOURCE, shutdown_on_exit=False)
    with spans.get_tracer("app").start_as_current_span("sell"):
        logs.get_logger("app").emit(event_name="order.placed", body={"count": 3, "note": None}, attributes={"n": 7})
    logs.get_logger("app").emit(event_name="outside", body="of any run")
    meters.get_meter("app").create_counter("claude_code.commit.count").add(2)
    meters.get_meter("app").create_counter("http.server.requests").add(5)
    for provider in (logs, meters, spans):
        provider.shutdown()


@pytest.mark.parametrize("names", ROUTES, ids="-".join)
def test_logs_and_metrics_reach_the_service(names, collect, service, tmp_path):
    """Each record once, although it was sent over both protocols; lines of a journal that the agent reads, never."""
    first = collect(names[-1], TELEMETRY_API_URL=service.url)
    for name in reversed(names[:-1]):
        journal = tmp_path / "journal" / "raw"
        journal.mkdir(parents=True)
        line = '{"record_type":"event","writer":"w","seq":1,"run_id":"r","event_type":"of the journal","payload":{}}\n'
        (journal / "events_20260101.ndjson").write_text(line)
        first = collect(name, COLLECTOR_GATEWAY_URL=first.url, TELEMETRY_BASE_DIR=str(journal.parent))
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    send_everything(first)
    base = tmp_path / "service"
    eventually(lambda: stored(base)[1] == {"commits": 2} and stored(base)[0].get("order.placed", (False,))[0])
    events, _ = stored(base)
    assert events == {"order.placed": (True, {"count": 3, "note": None, "n": 7})}
    # Of no run, and so only counted: each time that it came.
    eventually(lambda: httpx.get(f"{service.url}/metrics").json()["logs_not_kept"] == {"shop": 2})
