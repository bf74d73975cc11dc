"""A receiver of OTLP over HTTP in a process of its own, which answers 200 and forgets."""

from __future__ import annotations

import http.server
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection for all exports, as with a collector

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def _receive(port: Any) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    port.put(server.server_address[1])
    server.serve_forever()


@contextmanager
def receiver() -> Iterator[str]:
    """Run a receiver; yield the URL for traces."""
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    process = context.Process(target=_receive, args=(port,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{port.get(timeout=30)}/v1/traces"
    finally:
        process.kill()
        process.join()
