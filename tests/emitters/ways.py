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
from otel_agent_telemetry.storage.engine import make_engine, writing
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.testing import isolated_config
from tests.emitters.recorded_program import provider_of

PROTOBUF = {"Content-Type": "application/x-protobuf"}
PATIENCE_S = 60.0
MANY = 10_000
BATCH = 3


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
    """The exporter gets each span after its end, in small batches, as a long run's spans come."""

    name = "exporter"

    def record(self, program):
        exporter = AgentRunSpanExporter(recorder=self.recorder)
        spans = ended_spans(program, self.name)
        for first in range(0, len(spans), BATCH):
            assert exporter.export(spans[first : first + BATCH]) is SpanExportResult.SUCCESS
        if has_unended(program):
            exporter.shutdown()  # as the exit of its process does


class Otlp:
    """The service gets each span after its end, in two requests that arrive in the wrong order."""

    name = "otlp"

    def __init__(self, client, settings):
        self._client = client
        self._settings = settings
        self._unended = set()

    def record(self, program):
        if has_unended(program):
            self._unended |= program.trace_ids(self.name)
        spans = ended_spans(program, self.name)
        middle = len(spans) // 2
        for part in filter(None, (spans[middle:], spans[:middle])):
            body = encode_spans(part).SerializeToString()
            answer = self._client.post("/v1/traces", content=body, headers=PROTOBUF)
            assert (answer.status_code, answer.content) == (200, b"")

    def rows(self):
        """Return the rows, and those of programs with spans that never ended as they are after a silence."""
        rows = [row for row in self._all_rows() if row["trace_id"] not in self._unended]
        self._let_silence_pass()
        return [*rows, *(row for row in self._all_rows() if row["trace_id"] in self._unended)]

    def _all_rows(self):
        found = []
        while page := self._page(offset=len(found)):
            found.extend(page)
        return found

    def _let_silence_pass(self):
        """Close what waits for a root span, as the service does in time: the recorded programs ran long ago."""
        engine = make_engine(self._settings)
        with writing(engine, "closing what is silent") as connection:
            self._client.app.state.backend._silence.close_silent(connection)
        engine.dispose()

    def _page(self, offset):
        answer = self._client.get("/api/v1/runs", params={"limit": 1000, "offset": offset})
        assert answer.status_code == 200, answer.text
        return answer.json()


def has_unended(program):
    return any(span.get("end") is None for span in program.spans)


def ended_spans(program, way):
    kept = InMemorySpanExporter()
    provider = provider_of(program)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    program.replay(provider, way)
    return kept.get_finished_spans()


@contextmanager
def opened(name, folder):
    """Open the way of this name over a store under `folder`."""
    if name == Otlp.name:
        settings = isolated_config(folder, db_synchronous="OFF")
        with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
            yield Otlp(client, settings)
        return
    way = {Live.name: Live, Exporter.name: Exporter}[name](folder)
    try:
        yield way
    finally:
        way.close()
