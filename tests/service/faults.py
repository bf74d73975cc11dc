"""A real HTTP proxy between a client and a service, which injects configured faults.

`script` lines up faults, each for one request; `always` is what happens to every request
after them, until it is None again. Whatever is not spoilt goes to the service and back.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOLD_S = 60
_DROPPED = frozenset({"connection", "transfer-encoding", "content-length", "server", "date"})


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    `forward`: the service gets it and has answered before anything is spoilt. `hold`: it
    waits for this event first; `delay_s`: so long. `cut`: the connection ends instead of an
    answer, or in the middle of one after `cut_after` bytes. With `status` None the service's
    own answer is passed on.
    """

    status: int | None = 503
    body: bytes = b'{"detail": "the proxy says so"}'
    headers: dict[str, str] = field(default_factory=dict)
    forward: bool = False
    hold: threading.Event | None = None
    delay_s: float = 0.0
    cut: bool = False
    cut_after: int = 0


def slow(delay_s: float) -> Fault:
    """The right answer, late."""
    return Fault(status=None, forward=True, delay_s=delay_s)


class Proxy:
    """Listens on a free port of loopback from the beginning to `stop`. `target` may change meanwhile."""

    def __init__(self, target: str = "") -> None:
        self.target = target
        self.arrived = threading.Event()
        self.requests: list[str] = []
        """Method and path of each request, spoilt ones too."""
        self.tokens: set[str | None] = set()
        """Every `Authorization` that came."""
        self._script: deque[Fault] = deque()
        self._always: Fault | None = None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def script(self, *faults: Fault) -> None:
        self._script.extend(faults)

    def always(self, fault: Fault | None) -> None:
        self._always = fault

    @property
    def is_done(self) -> bool:
        """Whether every scripted fault has happened."""
        return not self._script

    def next_fault(self) -> Fault | None:
        with suppress(IndexError):
            return self._script.popleft()
        return self._always

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: Proxy

    def handle_error(self, request, client_address):
        """Connections that are cut are what it is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args):
        """Quiet."""

    def do_GET(self):
        self._pass_on()

    do_POST = do_PATCH = do_GET  # noqa: N815 - the names that the base class calls

    def _pass_on(self):
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy.requests.append(f"{self.command} {urlsplit(self.path).path}")
        proxy.tokens.add(self.headers.get("Authorization"))
        fault = proxy.next_fault()
        proxy.arrived.set()
        if fault is None:
            self._answer(*self._asked(body))
        else:
            self._spoil(fault, body)

    def _spoil(self, fault, body):
        if fault.hold is not None:
            fault.hold.wait(_HOLD_S)
        if fault.delay_s:
            threading.Event().wait(fault.delay_s)
        answer = (fault.status, fault.headers, fault.body)
        if fault.forward:
            real = self._asked(body)
            answer = real if fault.status is None else answer
        if fault.cut:
            self._cut(answer[2], fault.cut_after)
        else:
            self._answer(*answer)

    def _asked(self, body):
        """What the service answers: status, headers, body; 502 while it cannot be reached."""
        asked = http.client.HTTPConnection(urlsplit(self.server.proxy.target).netloc, timeout=_HOLD_S)
        headers = {name: text for name, text in self.headers.items() if name.lower() not in _DROPPED}
        try:
            asked.request(self.command, self.path, body, headers)
            answer = asked.getresponse()
            kept = {name: text for name, text in answer.getheaders() if name.lower() not in _DROPPED}
            return answer.status, kept, answer.read()
        except (OSError, http.client.HTTPException):
            return 502, {}, b"the service cannot be reached"
        finally:
            asked.close()

    def _answer(self, status, headers, body):
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _cut(self, body, after):
        if after:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.wfile.write(body[:after])
            self.wfile.flush()
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
