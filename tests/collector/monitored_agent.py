"""A program with agents of every kind, for dashboards to show: it goes on until its standard input ends.

Spans and metrics go to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names, runs also by our own way.
"""

from __future__ import annotations

import sys
import threading

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode

import otel_agent_telemetry
from otel_agent_telemetry import TelemetryClient

MODEL = {"gen_ai.request.model": "small-1", "gen_ai.response.model": "small-1", "gen_ai.provider.name": "acme"}
ROUND_S = 0.2


def set_up():
    """Providers as an application sets them up, but quick; and our recording beside them."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=200))
    trace.set_tracer_provider(provider)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=500)
    metrics.set_meter_provider(MeterProvider([reader]))
    otel_agent_telemetry.instrument()


def call_model(tracer, tokens, *, fails):
    """One request to a model, as instrumentations of model clients tell it."""
    attributes = {"gen_ai.operation.name": "chat", **MODEL}
    with tracer.start_as_current_span("chat small-1", attributes=attributes) as span:
        span.set_attributes({"gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 30})
        for kind, count in (("input", 120), ("output", 30)):
            tokens.record(count, {"gen_ai.token.type": kind, **attributes})
        if fails:
            span.set_status(Status(StatusCode.ERROR, "overloaded"))


def call_tool(tracer, *, fails):
    """One call of a tool."""
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
    with tracer.start_as_current_span("execute_tool search", attributes=attributes) as span:
        if fails:
            span.set_status(Status(StatusCode.ERROR, "no such page"))


def run_once(client, tracer, tokens, number):
    """A run by the client with a run inside it, of which every third fails; and a run by plain spans."""
    fails = number % 3 == 0
    status = "failed" if fails else "success"
    with client.track_run("indexer", "index", items_discovered=3) as run:
        call_model(tracer, tokens, fails=fails)
        with client.track_run("reader", "read"):
            call_tool(tracer, fails=fails)
        run.set_metrics(items_succeeded=2, items_failed=1, status=status)
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "plain"}
    with tracer.start_as_current_span("invoke_agent plain", attributes=attributes):
        call_model(tracer, tokens, fails=False)


def main():
    set_up()
    client, tracer = TelemetryClient(), trace.get_tracer("monitored")
    tokens = metrics.get_meter("monitored").create_histogram("gen_ai.client.token.usage", "{token}")
    client.start_run("indexer", "never ends")
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    print("ready", flush=True)
    number = 0
    while not ended.wait(ROUND_S):
        number += 1
        run_once(client, tracer, tokens, number)


if __name__ == "__main__":
    main()
