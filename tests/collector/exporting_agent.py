"""A program with a run of every kind, whose spans are recorded by us and exported to a collector.

Runs go where TELEMETRY_* says, spans to OTEL_EXPORTER_OTLP_ENDPOINT; it ends when both have been delivered.
"""

from __future__ import annotations

from contextlib import suppress

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_agent_telemetry import AgentRunSpanProcessor

RESOURCE = {"service.name": "shop", "deployment.environment.name": "prod", "host.name": "h-1"}
MARKED = {
    "agent.run.agent_name": "importer",
    "agent.run.job_type": "nightly import",
    "agent.run.status": "partial",
    "agent.run.product": "words",
    "agent.run.items_discovered": 10,
    "agent.run.items_failed": 2,
    "agent.run.git_commit_hash": "0a1b2c3d4e5f",
    "agent.run.parent_run_id": "yesterday",
    "agent.run.metrics": '{"pages": 7}',
    "batch": "b-1",
    "weights": (0.5, 1.5),
}
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.response.model": "m-1",
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 3,
    "gen_ai.input.messages": "what was said",
}


def main():
    provider = TracerProvider(resource=Resource(RESOURCE))
    provider.add_span_processor(AgentRunSpanProcessor())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    run_agents(provider.get_tracer("shop").start_as_current_span)
    assert provider.force_flush(20_000)
    provider.shutdown()


def run_agents(span):
    """Five runs: one that says all there is, one with steps and a run inside it, two that raise."""
    with span("nightly import", attributes=MARKED) as root:
        root.add_event("imported", {"rows": 7})
    with span("invoke_agent buyer", attributes=agent("buyer")):
        with span("chat m-1", attributes=CHAT) as chat:
            chat.add_event("first token", {"after_ms": 3})
        with suppress(LookupError), span("execute_tool pay", attributes={"gen_ai.operation.name": "execute_tool"}):
            raise LookupError("no such card")
        with span("invoke_agent checker", attributes=agent("checker")), span("chat m-1", attributes=CHAT):
            pass
    with suppress(ValueError), span("invoke_agent sums", attributes=agent("sums")):
        raise ValueError("3 is not 4")
    with suppress(TimeoutError), span("wait"):
        raise TimeoutError("after 30 s")


def agent(name):
    """What the conventions want on an agent's invocation."""
    return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name, "basket": ("a", "b")}


if __name__ == "__main__":
    main()
