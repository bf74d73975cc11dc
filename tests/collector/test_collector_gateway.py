"""gateway.yaml: whom it lets pass, and whom it keeps for a backend."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from on_disk import eventually
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from stored_runs import stored_runs
from streaming import client_of, event_id_of_span, new_ids, one_run, send, send_run, text

BACKEND = "otlp_http/backend"
ERROR = Status(code=Status.STATUS_CODE_ERROR, message="it failed")


@pytest.fixture
def sender(collect, shared_service, backend):
    """`sender(**env)`: a function that sends a run through a gateway with a backend, and gives its event id."""
    clients = ExitStack()

    def start(**env):
        where = {
            "TELEMETRY_API_URL": shared_service.url,
            "COLLECTOR_BACKEND": BACKEND,
            "COLLECTOR_BACKEND_URL": backend.url,
        }
        client = clients.enter_context(client_of(collect("gateway.yaml", **where, **env)))

        def send_one(**more):
            trace_id, span_id = new_ids()
            return send_run(client, trace_id, span_id, **more)

        return send_one

    with clients:
        yield start


def runs_at(backend):
    """Event ids of the roots that a backend has."""
    roots = [span for span in list(backend.spans) if not span.parent_span_id]
    return {event_id_of_span(span) for span in roots}


def test_probes_are_nobodys_runs(sender, shared_base):
    """A health check's root is dropped, a request's root and another service's path are not."""
    send_one = sender()
    server = {"name": "GET", "kind": Span.SPAN_KIND_SERVER}
    probe = send_one(**server, plain=True, attributes=[text("url.path", "/healthz")])
    kept = {
        send_one(**server, attributes=[text("url.path", "/metrics/7")]),
        send_one(**server),
        send_one(attributes=[text("url.path", "/healthz")]),
    }
    eventually(lambda: stored_runs(shared_base).keys() >= kept)
    assert probe not in stored_runs(shared_base)


@pytest.mark.parametrize(("which", "passing"), [("root", 4), ("agents", 3), ("marked", 1)])
def test_runs_that_pass_are_those_of_the_services_word(sender, shared_base, which, passing):
    """TELEMETRY_RUNS: a marked root always passes, an agent's by its convention, a plain one by default alone."""
    send_one = sender(TELEMETRY_RUNS=which)
    runs = [
        send_one(attributes=[text("agent.run.product", "words")]),
        send_one(attributes=[text("gen_ai.operation.name", "invoke_agent")]),
        send_one(attributes=[text("openinference.span.kind", "AGENT")], plain=True),
        send_one(plain=True),
    ]
    last = send_one(attributes=[text("agent.run.product", "words")])
    eventually(lambda: last in stored_runs(shared_base))
    assert [event_id for event_id in runs if event_id in stored_runs(shared_base)] == runs[:passing]


def test_failed_and_long_runs_are_always_kept_for_the_backend(sender, backend, shared_base):
    """Of the others nothing, when nothing is asked for; the service gets every run, and its metrics count them."""
    send_one = sender(COLLECTOR_SAMPLED_PERCENT="0", COLLECTOR_LONG_RUN_MS="5000")
    well = send_one()
    kept = {
        send_one(status=ERROR),
        send_one(attributes=[text("agent.run.status", "failed")]),
        send_one(attributes=[text("agent.run.status", "timeout")]),
        send_one(start_time_unix_nano=1, end_time_unix_nano=5_100_000_001),
    }
    eventually(lambda: runs_at(backend) >= kept)
    eventually(lambda: stored_runs(shared_base).keys() >= {*kept, well})
    assert runs_at(backend) == kept


def test_run_that_fails_after_the_wait_is_kept(collect, backend, shared_service):
    """Its steps came long before: they are forgotten, its root is not."""
    where = {
        "TELEMETRY_API_URL": shared_service.url,
        "COLLECTOR_BACKEND": BACKEND,
        "COLLECTOR_BACKEND_URL": backend.url,
    }
    gateway = collect("gateway.yaml", **where, COLLECTOR_SAMPLED_PERCENT="0", COLLECTOR_DECISION_WAIT="1s")
    with client_of(gateway) as client:
        whole = one_run(*new_ids(), status=ERROR)
        step, root = whole.resource_spans[0].scope_spans[0].spans
        step.ClearField("status")
        assert send(client, only(whole, step))
        decided = "tail_sampling_global_count_traces_sampled_total"
        eventually(lambda: any(decided in name for name in gateway.series(gateway.own_metrics_url)))
        assert send(client, only(whole, root))
        eventually(lambda: len(runs_at(backend)) == 1)


def only(whole, span):
    """The request with one of its spans."""
    part = type(whole)()
    part.CopyFrom(whole)
    spans = part.resource_spans[0].scope_spans[0].spans
    del spans[:]
    spans.append(span)
    return part
