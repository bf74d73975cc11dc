"""Programs that export their spans, and what a service must have of them."""

from __future__ import annotations

from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from service_cases import listed

from otel_agent_telemetry.run_id import span_event_id

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.response.model": "m-1",
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 3,
    "gen_ai.input.messages": "a prompt",
}


@contextmanager
def provider_with(*processors):
    """An application's provider, shut down at the end."""
    resource = Resource({"service.name": "shop", "deployment.environment.name": "prod", "host.name": "h-1"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    yield provider
    provider.shutdown()


def exporter_to(service, **more):
    return OTLPSpanExporter(endpoint=f"{service.url}/v1/traces", timeout=30, **more)


def one_agent_run(provider, *, fails=False):
    """What an instrumented agent leaves: a root with an event, a model call, a tool that raises; its ids."""
    tracer = provider.get_tracer("app")
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "buyer", "basket": ["a", "b"]}
    with tracer.start_as_current_span("invoke_agent buyer", attributes=attributes) as root:
        root.add_event("planned", {"steps": 2})
        with tracer.start_as_current_span("chat m-1", attributes=CHAT, kind=trace.SpanKind.CLIENT):
            pass
        try:
            with tracer.start_as_current_span("execute_tool pay", attributes={"gen_ai.operation.name": "execute_tool"}):
                raise LookupError("no such card")
        except LookupError as problem:
            if fails:
                root.record_exception(problem)
                root.set_status(trace.StatusCode.ERROR, str(problem))
    context = root.get_span_context()
    return span_event_id(f"{context.trace_id:032x}", f"{context.span_id:016x}", root.start_time), root


def get(service, event_id, below=""):
    answer = service.client.get(f"/api/v1/runs/{event_id}{below}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_the_run_is_there(service, event_id, root, status):
    """One row, with what a person who reads the program expects."""
    actual = get(service, event_id)
    wanted = {
        "agent_name": "buyer",
        "job_type": "invoke_agent buyer",
        "status": status,
        "service_name": "shop",
        "environment": "prod",
        "host": "h-1",
        "trace_id": f"{root.get_span_context().trace_id:032x}",
        "parent_run_id": None,
        "duration_ms": (root.end_time - root.start_time) // 1_000_000,
        "context_json": {"basket": ["a", "b"]},
        "error_summary": "LookupError: no such card" if status == "failed" else None,
    }
    # What was left out of a step is counted where it came with its run.
    step_content = {"gen_ai.input.messages": 1}
    assert actual["context_json"].pop("dropped", step_content) == step_content
    assert {name: actual[name] for name in wanted} == wanted
    assert ("raise LookupError" in (actual["error_details"] or "")) == (status == "failed")
    assert actual["metrics_json"]["gen_ai"] == {
        "by_model": {"m-1": {"input_tokens": 12, "model_calls": 1, "output_tokens": 3}},
        "child_errors": 1,
        "had_errors": True,
        "input_tokens": 12,
        "model_calls": 1,
        "models": ["m-1"],
        "output_tokens": 3,
        "steps": 2,
        "tool_calls": 1,
    }
    steps = get(service, event_id, "/spans")
    assert [(step["name"], step["kind"], step["status"]) for step in steps] == [
        ("chat m-1", "client", "unset"),
        ("execute_tool pay", "internal", "error"),
    ]
    assert "gen_ai.input.messages" not in steps[0]["attributes"]
    events = [event["event_type"] for event in get(service, event_id, "/events")]
    assert events == ["planned", "exception", *["exception"] * (status == "failed")]
    assert len(listed(service)) == 1


def one_finished_run(*, fails=False):
    """Return the event id, the root and all spans of an agent run that was not exported yet."""
    kept = InMemorySpanExporter()
    with provider_with(SimpleSpanProcessor(kept)) as provider:
        event_id, root = one_agent_run(provider, fails=fails)
    return event_id, root, kept.get_finished_spans()
