"""A server on loopback that keeps what is posted to it over OTLP/HTTP: traces, logs and metrics, protobuf or JSON, gzip or not."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.emitters.fake_model_server import body_of

MESSAGES = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
_IDS = ("traceId", "spanId", "parentSpanId")


@dataclass(frozen=True)
class Received:
    """One request: its path, its content type, its body without compression."""

    path: str
    content_type: str
    content: bytes

    @property
    def signal(self):
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def is_json(self):
        return "json" in self.content_type

    def body(self):
        """Return the request as OTLP writes it in JSON, ids as hex; enumerations are numbers."""
        if self.is_json:
            return json.loads(self.content)
        message = MESSAGES[self.signal].FromString(self.content)
        return _with_hex_ids(MessageToDict(message, use_integers_for_enums=True))


class OtlpReceiver(ThreadingHTTPServer):
    """Serves within a `with` block; `received` are the requests so far, in the order in which they came."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = body_of(self)
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        received = Received(self.path, self.headers.get("Content-Type", ""), body)
        self.server.received.append(received)
        answer = b"{}" if received.is_json else b""
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if received.is_json else "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Print nothing."""


def _with_hex_ids(value):
    """Return a decoded message with its ids as OTLP has them in JSON: hex, not base64."""
    if isinstance(value, list):
        return [_with_hex_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64decode(item).hex() if key in _IDS and isinstance(item, str) else _with_hex_ids(item)
        for key, item in value.items()
    }
