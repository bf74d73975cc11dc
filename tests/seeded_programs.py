"""Programs that seed `random` before each run, and how many runs each makes."""

from __future__ import annotations

from on_disk import run_python

WORK = """
import random, sys, threading
from opentelemetry.sdk.trace import TracerProvider
from otel_agent_telemetry.otel.exporter import AgentRunSpanExporter
from otel_agent_telemetry.otel.processor import AgentRunSpanProcessor
from otel_agent_telemetry.testing import isolated_config

def provider_of(route, target):
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    provider = TracerProvider()
    if route == "live":
        provider.add_span_processor(AgentRunSpanProcessor(isolated_config(target)))
    elif route == "exporter":
        provider.add_span_processor(BatchSpanProcessor(AgentRunSpanExporter(isolated_config(target))))
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=target + "/v1/traces")))
    return provider

def one_run(provider, name="work"):
    random.seed(42)
    tracer = provider.get_tracer("app")
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
    with tracer.start_as_current_span(name, attributes=attributes) as span:
        span.add_event("began")
        with tracer.start_as_current_span("call"):
            pass

def in_worker(arguments):
    provider = provider_of(*arguments)
    one_run(provider)
    provider.force_flush()

def loop(route, target):
    provider = provider_of(route, target)
    for _ in range(5):
        one_run(provider)
    provider.shutdown()

def agents(route, target):
    provider = provider_of(route, target)
    threads = [threading.Thread(target=one_run, args=(provider, f"agent-{n}")) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    provider.shutdown()

def pool(route, target):
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(6) as workers:
        workers.map(in_worker, [(route, target)] * 6, chunksize=1)
        workers.close()
        workers.join()

if __name__ == "__main__":
    shape, route, target = sys.argv[1:]
    {"loop": loop, "agents": agents, "pool": pool, "process": lambda *way: in_worker(way)}[shape](route, target)
"""
RUNS = {"loop": 5, "processes": 3, "pool": 6, "agents": 3}


def run_shape(tmp_path, shape, route, target):
    program = tmp_path / "seeded.py"
    program.write_text(WORK)
    start = f"import runpy, sys; sys.argv[0] = {str(program)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    for _ in range(3 if shape == "processes" else 1):
        run_python(start, "process" if shape == "processes" else shape, route, target)
