"""gateway.yaml reads words as the service does: of settings, of statuses, and of spans that look like a probe."""

from __future__ import annotations

import pytest
from on_disk import eventually
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_backend import attributes_of
from stored_runs import stored_runs
from streaming import client_of, new_ids, send_run, text

from otel_agent_telemetry.config import TelemetryConfig


def sent(client, **more):
    trace_id, span_id = new_ids()
    return send_run(client, trace_id, span_id, **more)


@pytest.mark.parametrize("word", ["", "ROOT", "root ", "agent", "Agents", " MARKED"])
def test_which_roots_pass_is_what_the_service_makes_of_the_word(collect, shared_service, shared_base, word):
    """In any case, with spaces, empty or misspelt: the gateway drops nothing that the service would take."""
    runs = TelemetryConfig.from_env({"TELEMETRY_RUNS": word}).runs
    with client_of(collect("gateway.yaml", TELEMETRY_API_URL=shared_service.url, TELEMETRY_RUNS=word)) as client:
        plain = sent(client, plain=True)
        agent = sent(client)
        marked = sent(client, plain=True, attributes=[text("agent.run.item_name", "x")])
    expected = {"root": {plain, agent, marked}, "agents": {agent, marked}, "marked": {marked}}[runs]
    eventually(lambda: expected <= stored_runs(shared_base).keys())
    assert {plain, agent, marked} & stored_runs(shared_base).keys() == expected


def test_probe_that_says_it_is_a_run_is_one(collect, shared_service, shared_base):
    """A server's root at /health is nobody's run, unless it is marked or an agent's."""
    path = {"kind": Span.SPAN_KIND_SERVER}
    with client_of(collect("gateway.yaml", TELEMETRY_API_URL=shared_service.url)) as client:
        probe = sent(client, plain=True, attributes=[text("url.path", "/health")], **path)
        marked = sent(
            client, plain=True, attributes=[text("url.path", "/health"), text("agent.run.job_type", "look")], **path
        )
        agent = sent(client, attributes=[text("url.path", "/ping")], **path)
    eventually(lambda: {marked, agent} <= stored_runs(shared_base).keys())
    assert probe not in stored_runs(shared_base)


def test_a_run_that_ended_badly_in_any_spelling_is_kept_for_the_backend(collect, shared_service, backend):
    """As the service reads a status: in any case, with spaces. Of the good ones none is kept here."""
    words = ["failed", "FAILED", "Failed ", " error", "TIMEOUT", "Cancelled", "canceled", "partial"]
    where = {"COLLECTOR_BACKEND": "otlp_http/backend", "COLLECTOR_BACKEND_URL": backend.url}
    collector = collect("gateway.yaml", TELEMETRY_API_URL=shared_service.url, COLLECTOR_SAMPLED_PERCENT="0", **where)
    with client_of(collector) as client:
        for word in [*words, "success", "ok"]:
            sent(client, attributes=[text("agent.run.status", word)])

    def statuses():
        return {attributes_of(span).get("agent.run.status") for span in list(backend.spans)} - {None}

    eventually(lambda: statuses() >= set(words))
    assert statuses() == set(words)
