"""Large requests over OTLP: stored in parts, answered in time, and completed by the sender's repetition."""

from __future__ import annotations

import pytest
from exporting import exporter_to, provider_with
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otlp_requests import (
    ENCODINGS,
    PROTOBUF,
    below,
    otlp_json,
    request,
    response_of,
    rows_of,
    run,
    send,
    send_body,
    span,
)
from running import emptied
from service_cases import listed, problem
from slow_service import slow_down

from otel_agent_telemetry.otel import receiver
from otel_agent_telemetry.otel.ended_spans import is_run
from otel_agent_telemetry.service.otlp_grpc import _time_for
from otel_agent_telemetry.service.otlp_intake import RESPONSE_WITHIN_S, TimeBudget

PART = 10


@pytest.fixture
def slowed():
    """Let a service take `seconds` for each part of a request, which has ten spans; the service is shared."""
    real = {}

    def slow(service, seconds):
        real.setdefault(service, service.app.state.otlp)
        return slow_down(service, seconds, items_a_part=PART)

    yield slow
    for service, intake in real.items():
        service.app.state.otlp = intake


def a_long_run(steps=24):
    """The spans of a run as exporters send them: children first, each with an event and something that is left out."""
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1", "gen_ai.usage.input_tokens": 2}
    inside = [
        span(
            number,
            max(number // 2, 1),
            attributes={**chat, "ai.prompt": "my knee hurts"},
            events=[("e", {"n": number})],
        )
        for number in range(2, steps + 2)
    ]
    return [*reversed(inside), span(1, attributes={"gen_ai.agent.name": "planner"})]


def accepted(service):
    return (
        service.app.state.metrics.registry.get_sample_value("agent_telemetry_otlp_spans_total", {"result": "accepted"})
        or 0
    )


@pytest.mark.parametrize("kind", ENCODINGS)
def test_what_does_not_fit_is_left_to_the_repetition(service, slowed, kind):
    """Two of three parts are stored, from the run downwards; the same request again stores the rest, and no more."""
    sent = request(*a_long_run())
    send(service, sent)
    at_once = rows_of(service)
    emptied(service)

    backend, before = slowed(service, 3), accepted(service)
    body = sent.SerializeToString() if kind == PROTOBUF else otlp_json(sent)
    answer = send_body(service, body, kind)
    assert "20 of 25 spans are stored" in problem(answer, 503)
    assert int(answer.headers["Retry-After"]) >= 1
    assert accepted(service) == before
    partly = rows_of(service)["run_spans"]
    assert len(partly) == 19
    assert "" not in {row[0] for row in partly}

    assert send_body(service, body, kind).status_code == 200
    assert rows_of(service) == at_once
    assert backend.written == [10, 10, 5]
    assert accepted(service) == before + 25
    assert run(service)["context_json"]["dropped"] == {"ai.prompt": 24}
    assert len(below(service, 1, "events")) == 24


def test_a_request_that_fits_is_stored_in_parts_and_answered(sqlite_service, slowed):
    """However many parts it has; what takes longer than all the time that there is gets one part further each time."""
    backend = slowed(sqlite_service, 1)
    send(sqlite_service, request(*a_long_run(60)))
    assert backend.written == [10, 10, 10, 10, 10, 10, 1]

    emptied(sqlite_service)
    slowed(sqlite_service, 100)
    answers = [send_body(sqlite_service, request(*a_long_run()).SerializeToString(), PROTOBUF) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]


def test_a_request_of_many_roots_gets_further_each_time(sqlite_service, slowed):
    """A run's own span is stored as the run's state alone; the same run twice in a request is one."""
    roots = [span(number, attributes={"gen_ai.agent.name": "planner"}) for number in range(1, 25)]
    backend = slowed(sqlite_service, 100)
    body = request(*roots, roots[0]).SerializeToString()
    assert [send_body(sqlite_service, body, PROTOBUF).status_code for _ in range(3)] == [503, 503, 200]
    assert backend.written == [10, 10, 5]
    assert len(listed(sqlite_service)) == 24
    assert send_body(sqlite_service, body, PROTOBUF).status_code == 503  # from its beginning


def test_spans_that_were_refused_in_an_earlier_part_are_named_at_the_end(sqlite_service, slowed, monkeypatch):
    """The response that completes a request counts all of it."""

    def fails_for_one(view, which):
        if view.name == "span 1":
            raise LookupError
        return is_run(view, which)

    monkeypatch.setattr(receiver, "is_run", fails_for_one)
    slowed(sqlite_service, 100)
    body = request(*[span(number) for number in range(1, 16)]).SerializeToString()
    assert send_body(sqlite_service, body, PROTOBUF).status_code == 503
    answer = send_body(sqlite_service, body, PROTOBUF)
    assert answer.status_code == 200
    assert response_of(answer) == (1, f"span {1:016x}: cannot be understood")


def test_the_official_exporter_completes_a_request_that_did_not_fit(sqlite_service, slowed):
    """By its own repetition, in one export; opentelemetry-python #5339: it waits as it likes, not for Retry-After."""
    finished = InMemorySpanExporter()
    with provider_with(SimpleSpanProcessor(finished)) as provider:
        tracer = provider.get_tracer("app")
        with tracer.start_as_current_span("root") as root:
            for number in range(24):
                tracer.start_span(f"step {number}", context=trace.set_span_in_context(root)).end()
    spans = finished.get_finished_spans()
    assert exporter_to(sqlite_service).export(spans) is SpanExportResult.SUCCESS
    at_once = rows_of(sqlite_service)
    emptied(sqlite_service)

    backend = slowed(sqlite_service, 3)
    assert exporter_to(sqlite_service).export(spans) is SpanExportResult.SUCCESS
    assert backend.written == [10, 10, 5]
    assert rows_of(sqlite_service) == at_once


def test_a_budget_leaves_room_for_what_took_longest():
    """Of any clock; nothing is left once the time is over."""
    clock = [100.0]
    budget = TimeBudget(8, now=lambda: clock[0])

    def take(seconds):
        async def work():
            clock[0] += seconds

        with pytest.raises(StopIteration):
            budget.spend(work()).send(None)

    assert budget.has_room()
    take(3)
    assert (budget.left_s(), budget.has_room()) == (5, True)
    take(1)
    assert (budget.left_s(), budget.has_room()) == (4, True)
    take(2)
    assert (budget.left_s(), budget.has_room()) == (2, False)
    take(20)
    assert (budget.left_s(), budget.has_room()) == (0, False)


@pytest.mark.parametrize(("waits_s", "within_s"), [(None, RESPONSE_WITHIN_S), (5, 4), (30, RESPONSE_WITHIN_S)])
def test_a_call_over_grpc_is_answered_before_its_client_gives_up(waits_s, within_s):
    """The collector's exporter waits 5 s where nothing else is configured."""

    class Context:
        def time_remaining(self):
            return waits_s

    assert _time_for(Context()) == within_s
