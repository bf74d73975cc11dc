"""What the measurements do: runs of an application that traces with OpenTelemetry, or uses the client."""

from __future__ import annotations

import itertools
from typing import Any, Final

from otel_agent_telemetry import StartSettings, TelemetryClient

ATTRIBUTES: Final[dict[str, Any]] = {
    "gen_ai.operation.name": "invoke_agent",
    "gen_ai.agent.name": "researcher",
    "session.id": "6f1c1f5e-7c39-4a1e",
    "user.tier": "gold",
    "retry": 2,
    "temperature": 0.7,
    "stream": True,
    "region": "eu-central-1",
    "queue.depth": 17,
    "request.id": "req-000182736455",
}
"""Ten attributes of mixed types."""
SETTINGS: Final[StartSettings] = {
    "product": "catalogue",
    "platform": "web",
    "website": "site.example",
    "item_name": "item 17",
    "items_discovered": 10,
    "environment": "test",
    "source_ref": "queue/17",
    "context_json": {"attempt": 1, "ratio": 0.5, "dry_run": False},
}
"""With agent and job ten settings of a run of the client."""
STEP: Final[dict[str, Any]] = {"step": 1, "tool": "search", "ok": True}
SMALL: Final = {"gen_ai.agent.name": "a"}
SMALL_STEP: Final = {"step": 1}
CHILD_SPANS: Final = 50


def run(tracer: Any) -> None:
    """Begin and end a run with ten attributes and three events of three attributes."""
    with tracer.start_as_current_span("invoke_agent researcher", attributes=ATTRIBUTES) as span:
        for _ in range(3):
            span.add_event("step", STEP)


_numbers = itertools.count()


def varied_run(tracer: Any) -> None:
    """Do `run` with texts that no run before had: what is remembered of texts does not help."""
    number = next(_numbers)
    attributes = ATTRIBUTES | {"session.id": f"6f1c1f5e-7c39-{number}", "request.id": f"req-{number:012}"}
    with tracer.start_as_current_span("invoke_agent researcher", attributes=attributes) as span:
        for step in range(3):
            span.add_event("step", {"step": step, "tool": f"search {number}", "ok": True})


def small_run(tracer: Any) -> None:
    """Begin and end a run with one attribute and three events of one attribute."""
    with tracer.start_as_current_span("invoke_agent a", attributes=SMALL) as span:
        for _ in range(3):
            span.add_event("step", SMALL_STEP)


def run_with_results(tracer: Any) -> None:
    """Do `run` with `agent.run.*` attributes, and set others before the end."""
    with tracer.start_as_current_span("invoke_agent researcher", attributes=ATTRIBUTES) as span:
        span.set_attribute("agent.run.item_name", "catalogue")
        for _ in range(3):
            span.add_event("step", STEP)
        span.set_attribute("agent.run.items_succeeded", 10)
        span.set_attribute("gen_ai.usage.input_tokens", 1200)
        span.set_attribute("gen_ai.usage.output_tokens", 340)
        span.set_attribute("outcome", "done")


def deep_run(tracer: Any) -> None:
    """Do a run with child spans of tools."""
    with tracer.start_as_current_span("invoke_agent researcher", attributes=ATTRIBUTES):
        for step in range(CHILD_SPANS):
            kind = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look", "step": step}
            with tracer.start_as_current_span("execute_tool look", attributes=kind):
                pass


def client_run(client: TelemetryClient) -> None:
    """Do a run through the client with ten settings of mixed types and three events of three attributes."""
    with client.track_run("researcher", "job", **SETTINGS) as tracked:
        for _ in range(3):
            tracked.log_event("step", STEP)


def wide_run(tracer: Any, attributes: dict[str, Any]) -> None:
    """Do a run that starts with these attributes."""
    with tracer.start_as_current_span("invoke_agent researcher", attributes=attributes):
        pass


def wide(count: int) -> dict[str, Any]:
    """Return so many attributes of mixed types."""
    values = ("text of a value", 17, 0.5, True)
    return ATTRIBUTES | {f"app.attribute_{number}": values[number % 4] for number in range(count - len(ATTRIBUTES))}


def long_run(tracer: Any, events: int) -> None:
    """Do a run with so many events."""
    with tracer.start_as_current_span("invoke_agent researcher", attributes=ATTRIBUTES) as span:
        for _ in range(events):
            span.add_event("step", STEP)
