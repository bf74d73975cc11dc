"""A small real HTTP server that speaks the service's contract, and fails as it is told.

It keeps runs by the rules of the model (`InMemoryTarget`), so "nothing lost, nothing twice"
can be asserted on `runs`. `script` lines up faults; each spoils one request.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from otel_agent_telemetry.columns import JSON_COLUMNS
from otel_agent_telemetry.delivery.outcome import Batch
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import RunRecord, order_key
from otel_agent_telemetry.testing import InMemoryTarget

STORE = "0123456789abcdef"
"""The id of its database."""
HOLD_S = 600.0
"""How long an answer is held unless the test lets it go: longer than any test waits for what must not wait for it."""


@dataclass
class Fault:
    """What happens to one request instead of the right answer.

    `after_keeping`: the service has committed before it fails. `hold`: it waits for this
    event first. `reset`: it cuts the connection, in the middle of the answer.
    """

    status: int = 503
    body: bytes = b'{"detail": "scripted"}'
    headers: dict = field(default_factory=dict)
    after_keeping: bool = False
    hold: threading.Event | None = None
    reset: bool = False


@dataclass
class Request:
    method: str
    path: str
    headers: dict
    body: bytes

    @property
    def json(self):
        return orjson.loads(self.body)


class TestService:
    """Starts at once on a free port of loopback; `kill` and `start` again on the same one."""

    __test__ = False

    def __init__(self, *, token=None):
        self.store = InMemoryTarget()
        self.commits = []
        self.requests = []
        self.token = token
        self.refuses = lambda _run: None
        self.takes_lines = False
        """Whether it takes lines of journals, as services since this version do; they are counted and not kept."""
        self.arrived = threading.Event()
        self._faults = deque()
        self._server = None
        self._port = 0
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}"

    @property
    def runs(self):
        """run_id → the state that stands. Two rows of one run_id would be one too many: see `rows`."""
        return {run.run_id: run for run in self.rows}

    @property
    def rows(self):
        return list(self.store.runs.values())

    def batches(self):
        """The bodies of all batch requests that came."""
        return [request.json for request in self.requests if request.path.endswith("/batch")]

    def script(self, *faults):
        self._faults.extend(faults)

    def start(self):
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.service = self
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def kill(self):
        """Gone at once: nobody listens, open connections are cut."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut()
            self._server = None

    def next_fault(self):
        return self._faults.popleft() if self._faults else None  # None in the script: this one goes well

    def keep(self, items):
        """What `POST /api/v1/runs/batch` does: each item by itself."""
        counts = {"inserted": 0, "updated": 0, "duplicates": 0}
        errors = []
        for index, item in enumerate(items):
            try:
                run = RunRecord.from_fields({**item, **_texts(item)})
                if reason := self.refuses(run):
                    raise RecordError("run", reason)
            except RecordError as problem:
                errors.append({"index": index, "event_id": item.get("event_id"), "reason": str(problem)})
                continue
            before = self.store.runs.get(run.event_id)
            self.store.deliver(Batch.of((run,)))
            after = self.store.runs[run.event_id]
            counts["inserted" if before is None else "duplicates" if before == after else "updated"] += 1
        return {**counts, "errors": errors, "total": len(items)}

    def associate(self, event_id, commit):
        """What `POST /api/v1/runs/{event_id}/associate-commit` does: status and body."""
        if event_id not in self.store.runs:
            return 404, {"detail": "no such run"}
        self.commits.append((event_id, commit))
        return 200, {"status": "success", "event_id": event_id}


def _texts(item):
    return {name: json.dumps(item[name]) for name in JSON_COLUMNS if name in item}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *args):
        super().__init__(*args)
        self._open = set()

    def get_request(self):
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def cut(self):
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        """Connections that were cut are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Quiet."""

    def do_GET(self):
        self._handle()

    def do_POST(self):
        self._handle()

    def _handle(self):
        service = self.server.service
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        service.requests.append(Request(self.command, self.path, dict(self.headers), body))
        service.arrived.set()
        path = urlsplit(self.path).path
        if path == "/version":
            lines = {"records": 1, "store": STORE} if service.takes_lines else {}
            self._answer(200, {"version": "3.0.0", "schema_version": 9, **lines})
        elif service.token and self.headers.get("Authorization") != f"Bearer {service.token}":
            self._answer(401, {"detail": "unauthorized"}, {"WWW-Authenticate": "Bearer"})
        elif (fault := service.next_fault()) is not None:
            self._fail(fault, path, body)
        else:
            self._answer(*self._right(path, body))

    def _right(self, path, body):
        service = self.server.service
        if path == "/api/v1/runs/batch":
            return 200, service.keep(orjson.loads(body))
        if path == "/api/v1/records" and service.takes_lines:
            return 200, {"lines": body.count(b"\n"), "refused": []}
        if path == "/metrics":
            agents = {}
            for run in service.rows:
                agents[run.agent_name] = agents.get(run.agent_name, 0) + 1
            return 200, {
                "total_runs": len(service.rows),
                "agents": agents,
                "recent_24h": 0,
                "performance": {},
            }
        if path == "/api/v1/runs":
            wanted = parse_qs(urlsplit(self.path).query).get("run_id", [None])[0]
            found = [run for run in service.rows if wanted in (None, run.run_id)]
            return 200, [run.to_fields() for run in sorted(found, key=order_key, reverse=True)]
        if path.endswith("/associate-commit"):
            return service.associate(path.split("/")[4], orjson.loads(body))
        return 404, {"detail": "no such path"}

    def _fail(self, fault, path, body):
        if fault.hold is not None:
            fault.hold.wait(HOLD_S)
        if fault.after_keeping:
            self._right(path, body)
        if fault.reset:
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"inserted": ')
            self.wfile.flush()
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._answer(fault.status, fault.body, fault.headers)

    def _answer(self, status, value, headers=None):
        content = value if isinstance(value, bytes) else orjson.dumps(value)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def service():
    """A running service that knows no run yet."""
    running = TestService()
    yield running
    running.kill()


@pytest.fixture
def other_service():
    """Another host, which nothing may reach: requests that a redirect sends there are a fault."""
    running = TestService()
    yield running
    running.kill()
