"""Agents of any language as a collector sees them: runs over OTLP/HTTP, without pause, and what was answered."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

import httpx
from on_disk import PATIENCE_S, eventually
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_agent_telemetry.run_id import span_event_id

_PAUSE_S = 0.02


def text(key, value):
    """A text attribute."""
    return KeyValue(key=key, value=AnyValue(string_value=value))


def one_run(trace_id, span_id, *, attributes=(), plain=False, **more):
    """A request with a run: an agent's invocation, or any `plain` root, with one event and one step.

    `more` are fields of its span.
    """
    now = time.time_ns()
    marks = [text("gen_ai.operation.name", "invoke_agent"), text("gen_ai.agent.name", "streamer")]
    root = {
        "trace_id": trace_id,
        "span_id": span_id,
        "name": "invoke_agent streamer",
        "start_time_unix_nano": now - 1_000_000,
        "end_time_unix_nano": now,
        "attributes": [*([] if plain else marks), *attributes],
        "events": [Span.Event(name="planned", time_unix_nano=now)],
        **more,
    }
    below = {"span_id": span_id[::-1], "parent_span_id": span_id, "name": "chat m-1"}
    step = {**root, **below, "attributes": [], "events": []}
    resource = {"attributes": [text("service.name", "streams")]}  # span metrics want one
    group = {"resource": resource, "scope_spans": [{"spans": [Span(**step), Span(**root)]}]}
    return ExportTraceServiceRequest(resource_spans=[group])


def event_id_of(request):
    """The event id of the run in a request of `one_run`."""
    return event_id_of_span(request.resource_spans[0].scope_spans[0].spans[1])


def event_id_of_span(span):
    return span_event_id(span.trace_id.hex(), span.span_id.hex(), span.start_time_unix_nano)


def send_run(client, trace_id, span_id, **more):
    """The event id of a run that was answered."""
    request = one_run(trace_id, span_id, **more)
    assert send(client, request)
    return event_id_of(request)


def new_ids():
    """A trace id and a span id."""
    return os.urandom(16), os.urandom(8)


def send(client, request):
    """Whether a collector answered for the request; False when there was no answer, or no good one."""
    with suppress(httpx.TransportError):
        headers = {"Content-Type": "application/x-protobuf"}
        answer = client.post("/v1/traces", content=request.SerializeToString(), headers=headers)
        return answer.status_code == httpx.codes.OK
    return False


def client_of(collector):
    """A connection to a collector's OTLP/HTTP."""
    return httpx.Client(base_url=collector.url, timeout=PATIENCE_S)


class Stream:
    """Threads that send runs until `stop`, each some forty a second. `sent`: event ids of all, `kept`: of those that were answered."""

    def __init__(self, collector, threads=4):
        self._collector = collector
        self.sent = set()
        self.kept = set()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def more(self, count=30):
        """Wait until so many more have been answered."""
        wanted = len(self.kept) + count
        eventually(lambda: len(self.kept) >= wanted)

    def stop(self):
        self._stopping.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE_S)
            assert not thread.is_alive()

    def _go_on(self):
        with client_of(self._collector) as client:
            while not self._stopping.is_set():
                trace_id, span_id = new_ids()
                request = one_run(trace_id, span_id)
                event_id = event_id_of(request)
                self.sent.add(event_id)
                if send(client, request):
                    self.kept.add(event_id)
                self._stopping.wait(_PAUSE_S)
