"""Any OTLP backend, as a collector sees it: takes traces and logs over HTTP and remembers them.

It refuses with 503 while `refuses` is set, as one that is overloaded does.
"""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Backend:
    """What arrived so far: `logs` and `spans`, oldest first, and `tokens`, every Authorization that came."""

    def __init__(self, url):
        self.url = url
        self.logs = []
        self.spans = []
        self.resources = []
        self.tokens = set()
        self.refuses = threading.Event()

    def take(self, path, body):
        """Remember a request; False for a path that is none."""
        if path == "/v1/logs":
            for group in ExportLogsServiceRequest.FromString(body).resource_logs:
                self.resources.append(attributes_of(group.resource))
                self.logs += [record for scope in group.scope_logs for record in scope.log_records]
        elif path == "/v1/traces":
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes_of(group.resource))
                self.spans += [span for scope in group.scope_spans for span in scope.spans]
        else:
            return False
        return True


@contextmanager
def receiving():
    """A backend on a free port of loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.backend = Backend(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.backend
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def attributes_of(holder):
    """The attributes of a resource, span or log record as plain values."""
    return {pair.key: plain(pair.value) for pair in holder.attributes}


def plain(value):
    """A value of OTLP as Python has it."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind) if kind else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Quiet."""

    def do_POST(self):
        backend = self.server.backend
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        backend.tokens.add(self.headers.get("Authorization"))
        if backend.refuses.is_set():
            self._answer(503)
        else:
            self._answer(200 if backend.take(self.path, body) else 404)

    def _answer(self, status):
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()
