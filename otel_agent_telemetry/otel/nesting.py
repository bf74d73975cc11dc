"""Agents inside runs: which of their spans are runs of their own (design, "What is a run")."""

from __future__ import annotations

from otel_agent_telemetry.active import ActiveRun
from otel_agent_telemetry.otel import attributes as names
from otel_agent_telemetry.otel.mapping import own_agent_name
from otel_agent_telemetry.otel.spans import SpanView


def repeats(view: SpanView, run: ActiveRun) -> bool:
    """Whether an agent's span below a run merely says again what that run is; it is a step of it then.

    Frameworks wrap an agent in spans of the same agent, or of none that they name; the first
    agent below such a one gives it its name. Whoever marks a span as a run means it.
    """
    if names.is_marked(view.attributes) or not run.is_agent:
        return False
    name = own_agent_name(view)
    if name is None and view.attributes.get(names.OPENINFERENCE_KIND) == "AGENT":
        name = view.name  # openai-agents: the agent's own attributes come later
    if name is None:
        return True
    if run.takes_child_name and run.child_agent is None:
        run.child_agent = name
    return name == (run.child_agent if run.takes_child_name else run.agent_name)
