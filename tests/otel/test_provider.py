"""The OTLP path of our own provider, against a real receiver."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from on_disk import PATIENCE_S, Process, rows_of, run_python
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.otel.provider import close_providers
from otel_agent_telemetry.testing import isolated_config


class Receiver:
    """A collector's OTLP/HTTP door: keeps the spans that come. `hold` makes it hang."""

    def __init__(self):
        receiver = self
        self.spans = []
        self.paths = []
        self.hold = threading.Event()
        self.hold.set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.hold.wait(10 * PATIENCE_S)
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                receiver.paths.append(self.path)
                receiver.spans.extend(
                    span for group in request.resource_spans for scope in group.scope_spans for span in scope.spans
                )
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    running = Receiver()
    yield running
    running.stop()


SCRIPT = """
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
with client.track_run("planner", "plan", run_id="mine", items_discovered=3) as run:
    run.log_event("checkpoint", {"n": 1})
print("returned", flush=True)
"""


def environment(config, **more):
    return {"TELEMETRY_BASE_DIR": str(config.base_dir), "TELEMETRY_EXIT_TIMEOUT_S": "20", **more}


def attributes(span):
    return {item.key: item.value.string_value or item.value.int_value for item in span.attributes}


def test_collector_gets_the_run_by_convention(receiver, config):
    """`invoke_agent NAME` with the run id, the agent's name, the columns and the event; the row is there too."""
    run_python(SCRIPT, env=environment(config, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url))

    (span,) = receiver.spans
    told = attributes(span)
    assert (span.name, receiver.paths) == ("invoke_agent planner", ["/v1/traces"])
    assert told["agent.run.id"] == "mine"
    assert (told["gen_ai.operation.name"], told["gen_ai.agent.name"]) == ("invoke_agent", "planner")
    assert told["agent.run.items_discovered"] == 3
    assert [event.name for event in span.events] == ["checkpoint"]
    row = rows_of(config)["mine"]
    assert (row["trace_id"], row["span_id"]) == (span.trace_id.hex(), span.span_id.hex())


def test_failed_run_is_an_error_there(receiver, config):
    """Status ERROR with the summary, the exception as an event."""
    script = SCRIPT.replace('    run.log_event("checkpoint", {"n": 1})\n', "    raise ValueError('broken')\n")
    with Process(script, env=environment(config, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)) as process:
        status, _, err = process.end()

    assert status == 1
    assert "ValueError: broken" in err
    (span,) = receiver.spans
    assert (span.status.code, span.status.message) == (2, "ValueError: broken")
    assert [event.name for event in span.events] == ["exception"]
    assert rows_of(config)["mine"]["status"] == "failed"


def test_our_own_delivery_makes_no_spans(receiver, config):
    """Only the application's spans arrive."""
    run_python(SCRIPT, env=environment(config, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.url + "/custom"))

    assert [span.name for span in receiver.spans] == ["invoke_agent planner"]
    assert receiver.paths == ["/custom"]


@pytest.mark.parametrize("how", ["unreachable", "hanging"])
def test_exit_is_bounded_without_a_collector(receiver, config, how):
    """The process ends although nobody answers, and the run itself is safe."""
    url = receiver.url
    if how == "unreachable":
        receiver.stop()
    else:
        receiver.hold.clear()
    impatient = environment(config, OTEL_EXPORTER_OTLP_ENDPOINT=url, TELEMETRY_EXIT_TIMEOUT_S="2")
    with Process(SCRIPT, env=impatient) as process:
        assert process.line() == "returned"
        status, _, err = process.end()  # while the receiver is still away or holds its answer

    assert status == 0, err
    assert rows_of(config)["mine"]["status"] == "success"


def test_no_endpoint_no_export(config):
    """The exporter is not even imported unless it is asked for."""
    out = run_python(
        SCRIPT + "import sys\nprint(any('otlp' in name for name in sys.modules if 'exporter' in name))\n",
        env=environment(config),
    )

    assert out.split() == ["returned", "False"]


def test_missing_extra_is_one_warning(config):
    """Without the exporter package: runs are kept, the log says what to install."""
    script = "import sys\nsys.modules['opentelemetry.exporter.otlp.proto.http.trace_exporter'] = None\n" + SCRIPT
    with Process(script, env=environment(config, TELEMETRY_OTLP_ENABLED="true")) as process:
        status, _, err = process.end()

    assert status == 0
    assert err.count("pip install otel-agent-telemetry[otlp]") == 1
    assert rows_of(config)["mine"]["status"] == "success"


def test_dropped_runs_reach_the_collector_through_our_provider(receiver, tmp_path, monkeypatch):
    """The application's provider drops them; ours exports them, and closing is bounded."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    config = isolated_config(tmp_path / "b", otlp_endpoint=receiver.url, db_synchronous="OFF")
    client = TelemetryClient(config, tracer_provider=TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    client.end_run(client.start_run("agent", "job", run_id="dropped"))

    close_providers(lambda used: used == config)

    assert [attributes(span)["agent.run.id"] for span in receiver.spans] == ["dropped"]
