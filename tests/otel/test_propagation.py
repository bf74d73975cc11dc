"""Runs across processes: what is sent along, and what becomes of it on the other side."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager

import pytest
from on_disk import ROOT, child_environment, eventually, rows_of, run_python
from opentelemetry import baggage, context, propagate
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_agent_telemetry import TelemetryClient, run_environment
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.otel.propagation import current_run_id, propagate_runs
from otel_agent_telemetry.testing import isolated_config


@pytest.fixture
def own_propagator():
    """The process's propagator, set back afterwards."""
    before = propagate.get_global_textmap()
    yield
    propagate.set_global_textmap(before)


def sent():
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def test_the_environment_of_a_subprocess_names_the_run_and_the_span(captured):
    """W3C's two headers as variables; nothing outside of a run."""
    assert run_environment() == {}
    with captured.provider.get_tracer("app").start_as_current_span("work", attributes={"agent.run.id": "é 1"}) as span:
        told = run_environment()
        assert current_run_id() == "é 1"
    assert told["BAGGAGE"] == "agent_run.id=%C3%A9%201"
    assert told["TRACEPARENT"].split("-")[1:3] == [
        f"{span.get_span_context().trace_id:032x}",
        f"{span.get_span_context().span_id:016x}",
    ]
    read = TelemetryConfig.from_env(told)
    assert (read.parent_run_id, read.command_run_id) == ("é 1", "é 1")
    assert read.command_event_id == captured.runs[0].event_id


def test_a_step_sends_the_run_that_it_belongs_to(captured):
    """At any depth."""
    tracer = captured.provider.get_tracer("app")
    with tracer.start_as_current_span("work"), tracer.start_as_current_span("call"):
        assert current_run_id() == captured.runs[0].run_id


def test_a_subprocess_started_in_a_run_is_a_child_of_it(tmp_path):
    """A real process with the client in it, started with the environment of a run of this one."""
    config = isolated_config(tmp_path / "base")
    client = TelemetryClient(config)
    program = "from otel_agent_telemetry import TelemetryClient\nwith TelemetryClient().track_run('child', 'job'): pass"
    environment = {**child_environment(), "TELEMETRY_BASE_DIR": str(config.base_dir)}
    with client.track_run("parent", "job") as run:
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env={**environment, **run_environment()}, check=True, timeout=60
        )
    assert client.flush(20)
    client.close()
    parents = {row["agent_name"]: row["parent_run_id"] for row in rows_of(config).values()}
    assert parents == {"parent": None, "child": run.run_id}


@pytest.mark.parametrize("variable", ["TRACEPARENT", "OTEL_TRACEPARENT"])
@pytest.mark.parametrize("of_the_application", [False, True])
def test_a_client_continues_the_trace_that_its_process_was_started_in(tmp_path, variable, of_the_application):
    """On a provider of its own and on the application's, also one that samples as the parent says."""
    config = isolated_config(tmp_path / "base")
    program = (
        "import sys\nfrom opentelemetry.sdk.trace import TracerProvider\n"
        "from otel_agent_telemetry import TelemetryClient\n"
        "provider = TracerProvider() if sys.argv[1] == 'True' else None\n"
        "client = TelemetryClient(tracer_provider=provider)\n"
        "with client.track_run('child', 'job') as run: pass\nclient.flush(20)"
    )
    told = {"BAGGAGE": "agent_run.id=the%20parent+1", variable: f"00-{7:032x}-{8:016x}-00"}
    run_python(program, of_the_application, env={"TELEMETRY_BASE_DIR": str(config.base_dir), **told})
    (row,) = rows_of(config).values()
    assert row["trace_id"] == f"{7:032x}"
    assert row["parent_run_id"] == "the parent+1"


@pytest.mark.parametrize("text", ["", "00-0-0-01", f"00-{0:032x}-{8:016x}-01", f"ff-{7:032x}-{8:016x}-01", "x" * 55])
def test_a_trace_parent_that_is_none_is_nothing(text):
    """It comes from the environment: anybody's text."""
    config = TelemetryConfig.from_env({"TRACEPARENT": text})
    assert (config.trace_parent, config.warnings) == (None, ())


def test_headers_carry_the_run_beside_the_baggage_that_is_there(captured, own_propagator):
    """Ours is added, nobody's is lost; twice is once."""
    propagate_runs()
    propagate_runs()
    token = context.attach(baggage.set_baggage("tenant", "blue"))
    try:
        with captured.provider.get_tracer("app").start_as_current_span("work", attributes={"agent.run.id": "r-1"}):
            headers = sent()
        outside = sent()
    finally:
        context.detach(token)
    assert sorted(headers["baggage"].split(",")) == ["agent_run.id=r-1", "tenant=blue"]
    assert outside["baggage"] == "tenant=blue"


def test_who_sends_no_baggage_sends_no_run(captured, own_propagator):
    """An application without a baggage propagator does not get one from us."""
    propagate.set_global_textmap(CompositePropagator([TraceContextTextMapPropagator()]))
    propagate_runs()
    with captured.provider.get_tracer("app").start_as_current_span("work"):
        assert "baggage" not in sent()


def test_a_run_behind_an_http_request_knows_its_parent(captured, own_propagator):
    """A client and a server that use OpenTelemetry's propagation, over a real connection."""
    propagate_runs()
    tracer = captured.provider.get_tracer("app")
    with serving(tracer) as url:
        with tracer.start_as_current_span("ask", attributes={"agent.run.id": "asking"}):
            urllib.request.urlopen(urllib.request.Request(url, headers=sent()), timeout=10).close()
        eventually(lambda: len(captured.runs) == 2)
    assert {run.agent_name: run.parent_run_id for run in captured.runs}["answerer"] == "asking"


@contextmanager
def serving(tracer):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            came_from = propagate.extract({name.lower(): text for name, text in self.headers.items()})
            attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "answerer"}
            with tracer.start_as_current_span("answer", context=came_from, attributes=attributes):
                self.send_response(204)
                self.end_headers()

        def log_message(self, *args):
            """Quiet."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    "header", ["", "a=1", "agent.run.id", "agent_run.id=", "agent_run.id=a%2Fb", "=;,;=", "x" * 9000]
)
def test_baggage_that_names_no_run_is_nothing(header):
    """It comes from the environment: anybody's text."""
    assert TelemetryConfig.from_env({"BAGGAGE": header}).parent_run_id is None


def test_environment_is_not_touched(captured):
    """Whoever starts a process decides what it gets."""
    before = dict(os.environ)
    with captured.provider.get_tracer("app").start_as_current_span("work"):
        run_environment()
    assert dict(os.environ) == before


def test_a_carrier_that_appends_gets_one_header(captured, own_propagator):
    """Message queues keep headers as a list."""
    propagate_runs()
    carrier: list[tuple[str, str]] = []

    class Appending:
        def set(self, headers, key, value):
            headers.append((key, value))

    token = context.attach(baggage.set_baggage("tenant", "blue"))
    try:
        with captured.provider.get_tracer("app").start_as_current_span("work", attributes={"agent.run.id": "r-1"}):
            propagate.inject(carrier, setter=Appending())
    finally:
        context.detach(token)
    (header,) = [value for key, value in carrier if key == "baggage"]
    assert sorted(header.split(",")) == ["agent_run.id=r-1", "tenant=blue"]
