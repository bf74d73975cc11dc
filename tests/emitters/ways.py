"""The three ways by which spans become rows: recorded live, exported after their end, received over OTLP."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from otel_agent_telemetry import AgentRunSpanExporter, AgentRunSpanProcessor
from otel_agent_telemetry.operations.run_reader import LocalRuns
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.service.app import create_app
from otel_agent_telemetry.storage.queries import RunQuery
from otel_agent_telemetry.testing import isolated_config
from tests.emitters.recorded_program import provider_of

PROTOBUF = {"Content-Type": "application/x-protobuf"}
PATIENCE_S = 60.0
MANY = 10_000


class _Local:
    """A recorder over a base folder that its own process delivers to SQLite; rows as the commands read them."""

    def __init__(self, base):
        self._config = isolated_config(base, fsync="off", db_synchronous="OFF")
        self.recorder = Recorder(self._config)

    def rows(self):
        assert self.recorder.flush(PATIENCE_S)
        return [asdict(record) for record in LocalRuns(self._config).runs(RunQuery(limit=MANY))]

    def close(self):
        self.recorder.close(PATIENCE_S)


class Live(_Local):
    """The processor sees each span begin and end."""

    name = "live"

    def record(self, program):
        provider = provider_of(program)
        processor = AgentRunSpanProcessor(recorder=self.recorder)
        provider.add_span_processor(processor)
        program.replay(provider, self.name)
        processor.close_open_runs()  # as the exit of its process does


class Exporter(_Local):
    """The exporter gets each span after its end, all in one batch."""

    name = "exporter"

    def record(self, program):
        spans = ended_spans(program, self.name)
        assert AgentRunSpanExporter(recorder=self.recorder).export(spans) is SpanExportResult.SUCCESS


class Otlp:
    """The service gets each span after its end, all in one request."""

    name = "otlp"

    def __init__(self, client):
        self._client = client

    def record(self, program):
        body = encode_spans(ended_spans(program, self.name)).SerializeToString()
        answer = self._client.post("/v1/traces", content=body, headers=PROTOBUF)
        assert (answer.status_code, answer.content) == (200, b"")

    def rows(self):
        found = []
        while page := self._page(offset=len(found)):
            found.extend(page)
        return found

    def _page(self, offset):
        answer = self._client.get("/api/v1/runs", params={"limit": 1000, "offset": offset})
        assert answer.status_code == 200, answer.text
        return answer.json()


def ended_spans(program, way):
    kept = InMemorySpanExporter()
    provider = provider_of(program)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    program.replay(provider, way)
    return kept.get_finished_spans()


@contextmanager
def all_ways(folder):
    """Open the ways, each over a store of its own: name → way."""
    settings = isolated_config(folder / "service", db_synchronous="OFF")
    live, exporter = Live(folder / "live"), Exporter(folder / "exporter")
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        try:
            yield {way.name: way for way in (live, exporter, Otlp(client))}
        finally:
            live.close()
            exporter.close()
