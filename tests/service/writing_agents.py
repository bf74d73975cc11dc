"""Agents that write to a real service, and what the service has of them."""

from __future__ import annotations

import random
import socket

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_agent_telemetry import AgentRunSpanProcessor

_PAGE = 1000


def record_runs(client, agent, count, *, first=0, status="success"):
    """Whole runs `{agent}-0` …, each with an event."""
    for number in range(first, first + count):
        run_id = client.start_run(agent, "job", run_id=f"{agent}-{number}")
        client.log_event(run_id, "checkpoint", {"n": number})
        client.end_run(run_id, status, items_succeeded=number)


def record_spans(config, agent, count):
    """The same through an application's own tracer."""
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(config))
    tracer = provider.get_tracer("app")
    for number in range(count):
        given = {"agent.run.id": f"{agent}-{number}", "agent.run.agent_name": agent, "agent.run.status": "success"}
        with tracer.start_as_current_span("job", attributes=given) as span:
            span.add_event("checkpoint", {"n": number})
    return provider


def expected(agent, count, *, status="success"):
    return sorted((f"{agent}-{number}", status) for number in range(count))


def served(service, agent):
    """`(run_id, status)` of every row that the service has of an agent; one that is there twice shows twice."""
    rows = []
    while len(page := _page(service, agent, len(rows))) == _PAGE:
        rows += page
    return sorted((run["run_id"], run["status"]) for run in rows + page)


def _page(service, agent, offset):
    answer = service.client.get("/api/v1/runs", params={"agent_name": agent, "limit": _PAGE, "offset": offset})
    assert answer.status_code == 200, answer.text
    return answer.json()


def quiet_port():
    """Return a free port that the system does not assign by itself, so that a service can restart on it."""
    while True:
        # Not the module's generator: Hypothesis seeds it, and the processes of a test run would choose alike.
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
