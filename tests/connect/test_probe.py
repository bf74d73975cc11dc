"""The probe: one request for each signal, and what to do where it does not arrive."""

from __future__ import annotations

import http.server
import socket
import threading

import pytest

from otel_agent_telemetry.connect.probe import SIGNALS, probe


@pytest.fixture
def answering():
    """A server that answers every POST with a status, and keeps what was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, self.headers["Authorization"], body))
            self.send_response(server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments):
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = asked
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "arrives", "word"),
    [(200, True, "arrives"), (401, False, "TELEMETRY_API_AUTH_TOKEN"), (403, False, "write"), (404, False, "another program"), (503, False, "doctor"), (418, False, "418")],
)  # fmt: skip
def test_each_answer_has_its_remedy(config, answering, status, arrives, word):
    answering.status = status
    url = f"http://127.0.0.1:{answering.server_port}/base"
    findings = list(probe(url, config.with_(api_auth_token="a-token")))
    assert [(one.signal, one.arrives) for one in findings] == [(signal, arrives) for signal in SIGNALS]
    assert all(word in one.text for one in findings)
    assert answering.asked == [
        (f"/base/v1/{signal}", "Bearer a-token", f'{{"{member}":[]}}'.encode()) for signal, member in SIGNALS.items()
    ]


def test_nobody_there_is_found_once(config):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        findings = list(probe(f"http://127.0.0.1:{free.getsockname()[1]}", config))
    assert [one.arrives for one in findings] == [False]
    assert "agent-telemetry serve" in findings[0].text
