"""Servers, pools and other telemetry around us: real processes with what pip resolves."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from on_disk import PATIENCE_S, ROOT, child_environment, eventually, rows_of

from otel_agent_telemetry.testing import isolated_config

BIN = Path(sys.executable).parent
QUIET = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
AGENT = """
from opentelemetry import trace

def agent(name):
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
    with trace.get_tracer("agents").start_as_current_span(f"invoke_agent {name}", attributes=attributes) as span:
        span.add_event("thought")
        return name
"""


@pytest.fixture
def config(tmp_path):
    return isolated_config(tmp_path / "base")


@pytest.fixture
def folder(tmp_path, config):
    """A folder with the module `agents_of_ours`, from which programs run."""
    (tmp_path / "agents_of_ours.py").write_text(AGENT)
    return tmp_path


def environment(config, **more):
    told = {"TELEMETRY_BASE_DIR": str(config.base_dir), "OTEL_SERVICE_NAME": "app", "PYTHONPATH": f"{ROOT}"}
    told["TELEMETRY_EXIT_TIMEOUT_S"] = "20"  # so that rows are there, on a busy machine too
    return {**child_environment(), **QUIET, **told, **more}


def ran(folder, config, program, *arguments, **more):
    path = folder / "program.py"
    path.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [*arguments, sys.executable, str(path)],
        cwd=folder,
        env=environment(config, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done


def agents_in(config):
    """Agent → how many of its runs ended well, after whoever delivers has been waited for."""
    found = {}
    for row in rows_of(config).values():
        if row["status"] == "success":
            found[row["agent_name"]] = found.get(row["agent_name"], 0) + 1
    return found


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def serving(folder, config, command, port, **more):
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(config, **more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        eventually(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None, process.stderr.read()
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.stderr.close()


def answers(port):
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def asked(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
        return answer.read().decode()


def test_fastapi_with_an_agent_inside_under_auto_instrumentation(folder, config):
    """The request is a run, and the agent a run of its own inside it, under one trace."""
    (folder / "web.py").write_text(
        textwrap.dedent(
            """
            from fastapi import FastAPI
            from agents_of_ours import agent

            app = FastAPI()

            @app.get("/ask/{name}")
            def ask(name: str) -> str:
                return agent(name)
            """
        )
    )
    port = free_port()
    command = [str(BIN / "opentelemetry-instrument"), str(BIN / "uvicorn"), "web:app", "--port", str(port)]
    with serving(folder, config, command, port):
        for name in ("first", "second"):
            assert name in asked(port, f"/ask/{name}")
        eventually(lambda: {"first", "second"} <= agents_in(config).keys())
    rows = rows_of(config)
    for name in ("first", "second"):
        (run,) = [row for row in rows.values() if row["agent_name"] == name]
        request = rows[run["parent_run_id"]]
        assert (request["job_type"], request["trace_id"]) == ("GET /ask/{name}", run["trace_id"])


def test_gunicorn_prefork_workers_record_each_for_themselves(folder, config):
    """The application is loaded before the fork; workers are recycled after a few requests; no run is lost."""
    (folder / "wsgi.py").write_text(
        textwrap.dedent(
            """
            import otel_agent_telemetry
            from agents_of_ours import agent

            otel_agent_telemetry.instrument()

            def app(environ, start_response):
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [agent(environ["PATH_INFO"].strip("/")).encode()]
            """
        )
    )
    port = free_port()
    command = [
        *(str(BIN / "gunicorn"), "wsgi:app", "--preload", "--workers", "3", "--max-requests", "5"),
        *("--bind", f"127.0.0.1:{port}"),
    ]
    with serving(folder, config, command, port):
        for number in range(40):
            assert eventually(lambda number=number: tried(port, f"/agent-{number}")) == f"agent-{number}"
        eventually(lambda: len(agents_in(config)) == 40)
    assert set(agents_in(config)) == {f"agent-{number}" for number in range(40)}


def tried(port, path):
    """The answer; "" while a worker is being replaced."""
    with suppress(OSError):
        return asked(port, path)
    return ""


@pytest.mark.parametrize("auto", [True, False], ids=["instrumented", "provider"])
def test_a_pool_of_celery_s_kind_with_recycled_workers(folder, config, auto):
    """Billiard's prefork pool, one task a child: every task is a run, none has another's parent."""
    program = """
        import sys
        sys.path.insert(0, ".")
        from billiard.pool import Pool
        from agents_of_ours import agent

        if __name__ == "__main__":
            pool = Pool(3, maxtasksperchild=2)
            assert len(pool.map(agent, [f"task-{n}" for n in range(12)], chunksize=1)) == 12
            pool.close()
            pool.join()
    """
    command = [str(BIN / "opentelemetry-instrument")] if auto else []
    door = {} if auto else {"OTEL_PYTHON_TRACER_PROVIDER": "agent_runs"}
    ran(folder, config, program, *command, PYTHONWARNINGS="ignore", **door)
    sync = [sys.executable, "-m", "otel_agent_telemetry.cli", "sync"]  # what the last worker had no time for
    subprocess.run(sync, cwd=ROOT, env=environment(config), check=True, capture_output=True, timeout=120)
    assert len(agents_in(config)) == 12
    assert all(row["parent_run_id"] is None for row in rows_of(config).values())


LOGFIRE = "import logfire\nlogfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)\n"
OURS = "import otel_agent_telemetry\nassert otel_agent_telemetry.instrument()\n"
WORK = """
import sys
sys.path.insert(0, ".")
from agents_of_ours import agent
agent("plain")
with logfire.span("by logfire"):
    pass
logfire.shutdown()
"""


@pytest.mark.parametrize("parts", [(LOGFIRE, OURS), (OURS, LOGFIRE)], ids=["logfire first", "ours first"])
def test_beside_logfire_in_either_order(folder, config, parts):
    """Plain spans and Logfire's are recorded, each once; Logfire's provider is not refused."""
    done = ran(folder, config, "".join(parts) + WORK)
    assert "not allowed" not in done.stderr
    assert sorted(row["job_type"] for row in rows_of(config).values()) == ["by logfire", "invoke_agent plain"]


def test_a_thousand_runs_at_once_in_one_event_loop(folder, config):
    """`asyncio.gather`: none lost, none with another's parent, steps where they belong."""
    program = """
        import asyncio, otel_agent_telemetry
        from opentelemetry import trace
        otel_agent_telemetry.instrument()
        tracer = trace.get_tracer("app")

        async def one(number):
            with tracer.start_as_current_span(f"run {number}", attributes={"agent.run.items_succeeded": number}):
                await asyncio.sleep(0)
                with tracer.start_as_current_span("step"):
                    await asyncio.sleep(0)

        async def main():
            await asyncio.gather(*(one(n) for n in range(1000)))

        asyncio.run(main())
    """
    ran(folder, config, program)
    ran(folder, config, "from otel_agent_telemetry import TelemetryClient\nassert TelemetryClient().flush(30)")
    eventually(lambda: len(rows_of(config)) == 1000)
    rows = rows_of(config).values()
    assert {(row["job_type"], row["items_succeeded"]) for row in rows} == {(f"run {n}", n) for n in range(1000)}
    assert {(row["parent_run_id"], row["metrics_json"]) for row in rows} == {(None, '{"gen_ai":{"steps":1}}')}


def test_nested_and_abandoned_generators(folder, config):
    """A generator that is closed in the middle ends its run as cancelled or done, never with another's parent."""
    program = """
        import gc, otel_agent_telemetry
        from opentelemetry import trace
        otel_agent_telemetry.instrument()
        tracer = trace.get_tracer("app")

        def pieces(name, inner=None):
            span = tracer.start_span(name)
            with trace.use_span(span, end_on_exit=True):
                yield 1
                if inner is not None:
                    yield from inner
                yield 2

        assert list(pieces("whole")) == [1, 2]
        given_up = pieces("given up")
        next(given_up)
        given_up.close()
        with tracer.start_as_current_span("afterwards"):
            pass
    """
    ran(folder, config, program)
    rows = {row["job_type"]: (row["status"], row["parent_run_id"]) for row in rows_of(config).values()}
    assert rows == {
        "whole": ("success", None),
        "given up": ("cancelled", None),
        "afterwards": ("success", None),
    }


def test_threads_with_and_without_context(folder, config):
    """An executor without propagation makes roots; with it, steps and runs inside."""
    program = """
        import contextvars, otel_agent_telemetry
        from concurrent.futures import ThreadPoolExecutor
        from opentelemetry import trace
        import sys
        sys.path.insert(0, ".")
        from agents_of_ours import agent
        otel_agent_telemetry.instrument()

        with trace.get_tracer("app").start_as_current_span("outer"):
            with ThreadPoolExecutor(2) as pool:
                pool.submit(agent, "lost").result()
                pool.submit(contextvars.copy_context().run, agent, "carried").result()
    """
    ran(folder, config, program)
    rows = rows_of(config)
    (outer,) = [row["run_id"] for row in rows.values() if row["job_type"] == "outer"]
    parents = {row["agent_name"]: row["parent_run_id"] for row in rows.values() if row["run_id"] != outer}
    assert parents == {"lost": None, "carried": outer}
