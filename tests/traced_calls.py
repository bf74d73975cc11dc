"""The functions and files of the package that five calls pass through, counted by the interpreter's profile hook.

`python tests/traced_calls.py CALL` prints `functions files switches` of one call in a base directory of its own. Each
call is made several times, and the smallest figures stand: background threads of a busy process only add to them.
A switch is a call whose file differs from that of the call before it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import FrameType
from typing import Any

PACKAGE = f"{os.sep}otel_agent_telemetry{os.sep}"
ROUNDS = 3
FILL = """
import os
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
client.end_run(client.start_run("agent", "job"))
os._exit(0)
"""
"""Ends like a killed process, so that its two records wait in the buffer."""


class Profile:
    """Calls of the package's functions, of every thread started while this is installed."""

    def __init__(self, without: tuple[str, ...] = ()) -> None:
        self._without = tuple(f"{PACKAGE}{folder}{os.sep}" for folder in without)
        self.calls: list[tuple[str, str]] = []
        self.best: tuple[int, int, int] | None = None

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and PACKAGE in path and not any(folder in path for folder in self._without):
            self.calls.append((path, frame.f_code.co_qualname))

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what the block calls; of several blocks the one with the fewest switches stands."""
        self.calls = []
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
        calls = list(self.calls)
        files = [path for path, _ in calls]
        switches = sum(before != after for before, after in pairwise(files))
        figures = (len(set(calls)), len(set(files)), switches)
        self.best = figures if self.best is None else min(self.best, figures, key=lambda figure: figure[2])


def start_run(profile: Profile) -> None:
    """`TelemetryClient.start_run`, on the caller's thread, until its lines are in journal and buffer."""
    client = _warm_client()
    for _ in range(ROUNDS):
        with profile.counting():
            run_id = client.start_run("agent", "job")
        client.end_run(run_id)


def log_event(profile: Profile) -> None:
    """`TelemetryClient.log_event` of an open run, until its line is in the journal."""
    client = _warm_client()
    run_id = client.start_run("agent", "job")
    client.log_event(run_id, "checkpoint", {"step": 0})
    for step in range(ROUNDS):
        with profile.counting():
            client.log_event(run_id, "checkpoint", {"step": step})


def _warm_client() -> Any:
    from otel_agent_telemetry import TelemetryClient

    client = TelemetryClient()
    client.end_run(client.start_run("agent", "job"))
    return client


def buffer_to_sqlite(profile: Profile) -> None:
    """`agent-telemetry sync` without the command itself: from the segments of a process that ended to rows."""
    from otel_agent_telemetry.cli.app import main

    sys.argv = ["agent-telemetry", "sync"]
    for _ in range(ROUNDS):
        away = {**os.environ, "TELEMETRY_API_URL": "http://127.0.0.1:1", "TELEMETRY_EXIT_TIMEOUT_S": "0"}
        subprocess.run([sys.executable, "-c", FILL], env=away, check=True)
        with profile.counting():
            _run_command(main)


def _run_command(main: Callable[[], Any]) -> None:
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        sys.stdout = out


def otlp_to_rows(profile: Profile) -> None:
    """`POST /v1/traces` with one agent's span, from the request's bytes to the answer after the commit."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    async def send(http: Any) -> None:
        body = ExportTraceServiceRequest()
        span = body.resource_spans.add().scope_spans.add().spans.add()
        span.trace_id, span.span_id, span.name = os.urandom(16), os.urandom(8), "invoke_agent agent"
        span.start_time_unix_nano, span.end_time_unix_nano = 1_760_000_000_000_000_000, 1_760_000_001_000_000_000
        headers = {"content-type": "application/x-protobuf"}
        with profile.counting():
            answer = await http.post("/v1/traces", content=body.SerializeToString(), headers=headers)
        assert answer.status_code == 200, answer.text

    asyncio.run(_with_service(send))


def read_runs(profile: Profile) -> None:
    """`GET /api/v1/runs`, from the request to the answer's bytes, with one run stored."""

    async def read(http: Any) -> None:
        run = {"event_id": "00000000-0000-4000-8000-000000000001", "run_id": "one", "agent_name": "agent"}
        times = {"created_at": "2026-01-01T00:00:00+00:00", "start_time": "2026-01-01T00:00:00+00:00"}
        stored = await http.post("/api/v1/runs", json={**run, **times, "job_type": "job", "status": "success"})
        assert stored.status_code == 201, stored.text
        with profile.counting():
            answer = await http.get("/api/v1/runs")
        assert len(answer.json()) == 1

    asyncio.run(_with_service(read))


async def _with_service(call: Callable[[Any], Any]) -> None:
    import httpx

    from otel_agent_telemetry.service.app import create_app

    app = create_app()
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as http:
            for _ in range(ROUNDS + 1):  # the first one is the slow one: it fills caches
                await call(http)


CALLS = {
    "start_run to disk": (start_run, ()),
    "log_event to disk": (log_event, ()),
    "buffer to SQLite": (buffer_to_sqlite, ("cli",)),
    "OTLP to rows": (otlp_to_rows, ()),
    "GET /api/v1/runs": (read_runs, ()),
}
"""Name of the call → the function that makes it, and the folders whose functions are left out."""


def main() -> int:
    """Make the call named on the command line and print its figures."""
    make, without = CALLS[sys.argv[1]]
    profile = Profile(without)
    with tempfile.TemporaryDirectory(prefix="traced-") as base:
        os.environ.update(TELEMETRY_BASE_DIR=base, TELEMETRY_SKIP_VALIDATION="true")
        os.chdir(base)
        threading.setprofile(profile)
        make(profile)
    assert profile.best is not None
    print(*profile.best)
    sys.stdout.flush()
    os._exit(0)  # the background has no base directory any more


if __name__ == "__main__":
    sys.exit(main())
