"""The OTLP receiver over real HTTP: what a collector or an exporter sends becomes runs, events and steps."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from itertools import permutations

import orjson
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from otlp_requests import (
    ENCODINGS,
    JSON,
    PROTOBUF,
    TRACE,
    below,
    otlp_json,
    request,
    response_of,
    rows_of,
    run,
    run_of,
    send,
    send_body,
    span,
    span_id,
)
from running import emptied
from service_cases import at, listed, post_states, problem, state

from otel_agent_telemetry.otel import mapping

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}


def chat(number, parent, tokens_in, tokens_out, **more):
    tokens = {"gen_ai.usage.input_tokens": tokens_in, "gen_ai.usage.output_tokens": tokens_out}
    return span(number, parent, attributes={**CHAT, **tokens}, **more)


def a_tree():
    """A run with two model calls, one of them below a chain, a tool that failed, and a run of another agent inside."""
    return [
        span(1, name="invoke_agent planner", attributes=AGENT, events=[("began", {"n": 1})], seconds=10),
        span(2, 1, name="chain"),
        chat(3, 2, 10, 5, events=[("first token", {})]),
        chat(4, 1, 7, 3),
        span(5, 1, attributes=TOOL, status=Status(code=Status.STATUS_CODE_ERROR, message="no such page")),
        span(6, 2, attributes={**AGENT, "gen_ai.agent.name": "helper"}, seconds=2),
        chat(7, 6, 100, 50),
    ]


GEN_AI = {
    "by_model": {"m-1": {"input_tokens": 17, "model_calls": 2, "output_tokens": 8}},
    "child_errors": 1,
    "had_errors": True,
    "input_tokens": 17,
    "model_calls": 2,
    "models": ["m-1"],
    "output_tokens": 8,
    "steps": 4,
    "tool_calls": 1,
}
GEN_AI_INSIDE = {
    "by_model": {"m-1": {"input_tokens": 100, "model_calls": 1, "output_tokens": 50}},
    "input_tokens": 100,
    "model_calls": 1,
    "models": ["m-1"],
    "output_tokens": 50,
    "steps": 1,
}


def assert_the_tree_is_there(service):
    """The two runs of `a_tree`, their steps, events and sums."""
    outer, inner = run(service, 1), run(service, 6)
    assert sorted(listed(service)) == sorted([outer["run_id"], inner["run_id"]])
    assert (outer["agent_name"], outer["status"], outer["duration_ms"]) == ("planner", "success", 10_000)
    assert (inner["agent_name"], inner["parent_run_id"]) == ("helper", outer["run_id"])
    assert (outer["metrics_json"], inner["metrics_json"]) == ({"gen_ai": GEN_AI}, {"gen_ai": GEN_AI_INSIDE})
    assert [step["name"] for step in below(service, 1, "spans")] == ["chain", "span 3", "span 4", "span 5", "span 6"]
    assert [step["name"] for step in below(service, 6, "spans")] == ["span 7"]
    assert [event["event_type"] for event in below(service, 1, "events")] == ["began", "first token"]


def test_a_run_has_the_same_cost_by_its_spans_and_by_its_state(service):
    """And the state, which holds no price, is a duplicate the second time, also after it was read."""
    used = {"gen_ai.request.model": "gpt-4o-mini", "gen_ai.usage.input_tokens": 1000}
    send(service, request(span(1, name="root"), span(2, 1, attributes={**CHAT, **used})))
    by_model = {"gpt-4o-mini": {"model_calls": 1, "input_tokens": 1000}}
    sent = state(9, status="success", metrics_json={"gen_ai": {"by_model": by_model}})
    assert post_states(service, sent) == ["created"]
    by_state = service.client.get(f"/api/v1/runs/{sent['event_id']}").json()
    assert by_state["metrics_json"]["gen_ai"]["cost_usd"] == 0.00015
    assert run(service, 1)["metrics_json"]["gen_ai"]["cost_usd"] == 0.00015
    assert post_states(service, sent) == ["duplicate"]


# Encodings


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("kind", ENCODINGS)
def test_a_request_is_kept_in_each_encoding(service, kind, compression):
    """200 after the commit, with an answer in the same encoding."""
    answer = send(service, request(*a_tree()), kind, compression=compression)
    assert response_of(answer) == (0, "")
    assert answer.content == (b"" if kind == PROTOBUF else b"{}")
    assert_the_tree_is_there(service)


def test_both_encodings_give_the_same_rows(service):
    """What came as protobuf is known when it comes as JSON."""
    send(service, request(*a_tree()))
    before = rows_of(service)
    send(service, request(*a_tree()), JSON)
    assert rows_of(service) == before


@pytest.mark.parametrize("kind", ["", "text/plain", "application/grpc", "application/x-www-form-urlencoded"])
def test_another_content_type_is_415(sqlite_service, kind):
    """The detail names the accepted ones."""
    assert PROTOBUF in problem(send_body(sqlite_service, b"", kind), 415)


@pytest.mark.parametrize("kind", ["Application/JSON", "application/json; charset=utf-8"])
def test_a_content_type_may_have_parameters_and_any_case(sqlite_service, kind):
    """RFC 9110."""
    assert send_body(sqlite_service, otlp_json(request(span(1))), kind).json() == {}
    assert run(sqlite_service)["status"] == "success"


@pytest.mark.parametrize("kind", ENCODINGS)
def test_an_empty_request_is_fine(service, kind):
    """Nothing to keep is no error: no spans, empty groups, nothing at all."""
    for empty in (request(), type(request())()):
        assert response_of(send(service, empty, kind)) == (0, "")
    assert listed(service) == []


# What a run, a step and an event are made of


def test_a_root_span_becomes_a_run(service):
    """Columns from the span, its resource and the conventions; the rest in context_json."""
    resource = {"service.name": "svc", "host.name": "h", "deployment.environment.name": "prod", "telemetry.sdk": "x"}
    attributes = {**AGENT, "gen_ai.workflow.name": "plan", "agent.run.items_failed": 2, "colour": "red", "n": 1.5}
    send(service, request(span(1, attributes=attributes, seconds=2), resource=resource))
    actual = run(service)
    wanted = {
        "event_id": run_of(1),
        "run_id": f"20251009T085321Z-planner-{run_of(1)[:8]}",
        "trace_id": TRACE.hex(),
        "span_id": span_id(1).hex(),
        "agent_name": "planner",
        "job_type": "plan",
        "status": "success",
        "created_at": at(1),
        "start_time": at(1),
        "end_time": at(3),
        "updated_at": at(3),
        "duration_ms": 2000,
        "items_failed": 2,
        "service_name": "svc",
        "host": "h",
        "environment": "prod",
        "metrics_json": None,
    }
    assert {name: actual[name] for name in wanted} == wanted
    assert actual["context_json"] == {"colour": "red", "n": 1.5, "gen_ai.workflow.name": "plan"}


def test_a_span_may_name_its_run(service):
    """`agent.run.id`, where it is a valid one."""
    send(service, request(span(1, attributes={"agent.run.id": "mine"}), span(9, attributes={"agent.run.id": "a/b"})))
    assert run(service)["run_id"] == "mine"
    assert run(service, 9)["run_id"].startswith("20251009T085329Z-tests-")


@pytest.mark.parametrize(
    ("attributes", "events", "wanted"),
    [
        ({}, [], ("failed", "it broke")),
        (
            {},
            [("exception", {"exception.type": "ValueError", "exception.message": "bad"})],
            ("failed", "ValueError: bad"),
        ),
        ({}, [("exception", {"exception.type": "asyncio.TimeoutError"})], ("timeout", "asyncio.TimeoutError")),
        ({"error.type": "CancelledError"}, [], ("cancelled", "it broke")),
        ({"agent.run.status": "partial"}, [], ("partial", "it broke")),
    ],
)
def test_an_error_gives_the_run_its_status_and_why(sqlite_service, attributes, events, wanted):
    """From the exception event, else from the status description."""
    broken = Status(code=Status.STATUS_CODE_ERROR, message="it broke")
    send(sqlite_service, request(span(1, attributes=attributes, events=events, status=broken)))
    actual = run(sqlite_service)
    assert (actual["status"], actual["error_summary"]) == wanted


def test_steps_are_read_in_order_with_their_attributes(service):
    """Every attribute of a span is stored, except prompts and completions."""
    attributes = {"a": "text", "b": [1, 2], "c": {"d": True}, "gen_ai.prompt": "secret prompt", "api_key": "k"}
    child = span(
        2,
        1,
        attributes=attributes,
        kind=Span.SPAN_KIND_CLIENT,
        status=Status(code=Status.STATUS_CODE_ERROR, message="m"),
    )
    send(service, request(span(1), child))
    assert below(service, 1, "spans") == [
        {
            "event_id": run_of(1),
            "run_id": run(service)["run_id"],
            "trace_id": TRACE.hex(),
            "span_id": span_id(2).hex(),
            "parent_span_id": span_id(1).hex(),
            "name": "span 2",
            "kind": "client",
            "status": "error",
            "status_message": "m",
            "start_time": at(2),
            "end_time": at(3),
            "duration_ms": 1000,
            "attributes": {"a": "text", "b": [1, 2], "c": {"d": True}, "api_key": "***REDACTED***"},
        }
    ]


def test_events_of_run_and_steps_are_read_in_order_of_time(service):
    """Each with the span that it happened in."""
    send(
        service,
        request(span(1, events=[("first", {"n": 1}), ("second", {})]), span(2, 1, events=[("third", {"x": []})])),
    )
    actual = below(service, 1, "events")
    assert [(event["event_type"], event["payload"], event["span_id"]) for event in actual] == [
        ("first", {"n": 1}, span_id(1).hex()),
        ("second", {}, span_id(1).hex()),
        ("third", {"x": []}, span_id(2).hex()),
    ]
    assert {event["event_id"] for event in actual} == {run_of(1)}
    assert {event["run_id"] for event in actual} == {run(service)["run_id"]}
    assert [event["timestamp"] for event in actual] == [at(1), at(1), at(2)]


def test_roots_own_totals_stand_in_where_no_step_has_tokens(service):
    """Tokens are never counted twice: frameworks repeat the sum on the root."""
    totals = {"gen_ai.usage.input_tokens": 30, "gen_ai.usage.output_tokens": 20}
    send(service, request(span(1, attributes=totals), span(2, 1)))
    actual = run(service)["metrics_json"]["gen_ai"]
    assert (actual["input_tokens"], actual["output_tokens"], actual["steps"]) == (30, 20, 1)
    send(service, request(chat(3, 1, 7, 5)))
    actual = run(service)["metrics_json"]["gen_ai"]
    assert (actual["input_tokens"], actual["output_tokens"], actual["steps"]) == (7, 5, 2)


def test_events_of_a_run_that_came_alone_name_it(service):
    """Its steps are in other requests, or there are none."""
    send(service, request(span(1, events=[("first", {})])))
    assert [event["run_id"] for event in below(service, 1, "events")] == [run(service)["run_id"]]


# Order, partition, repetition


@pytest.mark.parametrize("order", list(permutations([1, 2, 3])))
def test_children_before_and_after_their_root_find_it(service, order):
    """Each in a request of its own: root, child, grandchild in any order."""
    spans = {1: span(1, attributes=AGENT), 2: span(2, 1), 3: chat(3, 2, 5, 6)}
    for number in order:
        send(service, request(spans[number]))
    assert [step["name"] for step in below(service, 1, "spans")] == ["span 2", "span 3"]
    assert run(service)["metrics_json"]["gen_ai"]["input_tokens"] == 5


@pytest.mark.parametrize("seed", range(3))
def test_any_partition_into_requests_ends_in_the_same_rows(service, seed):
    """Shuffled, cut, some of it twice, in both encodings: the rows are those of one request."""
    send(service, request(*a_tree()))
    wanted = rows_of(service)
    chance = random.Random(seed)
    others = a_tree() + chance.sample(a_tree(), 4)
    chance.shuffle(others)
    emptied(service)
    while others:
        size = chance.randrange(1, 4)
        send(service, request(*others[:size]), chance.choice(ENCODINGS))
        del others[:size]
    assert rows_of(service) == wanted
    assert_the_tree_is_there(service)


def test_the_same_request_again_changes_no_row(service):
    """Senders repeat what they have no answer for."""
    send(service, request(*a_tree()))
    before = rows_of(service)
    for kind in ENCODINGS:
        send(service, request(*a_tree()), kind)
    assert rows_of(service) == before


def test_a_run_that_came_by_the_runs_endpoint_has_the_steps_too(service):
    """Its start over `POST /api/v1/runs`, its spans over OTLP: one row, whatever came first."""
    start = state(1, event_id=run_of(1), run_id="mine", trace_id=TRACE.hex(), span_id=span_id(1).hex())
    send(service, request(span(2, 1)))
    assert post_states(service, start) == ["created"]
    send(service, request(span(3, 1), span(1, attributes={"agent.run.id": "mine"})))
    assert listed(service) == ["mine"]
    assert run(service)["status"] == "success"
    assert [step["name"] for step in below(service, 1, "spans")] == ["span 2", "span 3"]


# What cannot be taken


BAD_SPANS = [
    span(2, trace=b""),
    span(2, trace=TRACE[:8]),
    span(2, trace=TRACE + b"\1"),
    span(2, trace=bytes(16)),
    span(2, span_id=b""),
    span(2, span_id=b"\1" * 7),
    span(2, span_id=b"\1" * 16),
    span(2, span_id=bytes(8)),
    span(2, parent_span_id=b"\1"),
]


@pytest.mark.parametrize("kind", ENCODINGS)
def test_spans_with_bad_ids_are_counted_and_spare_their_neighbours(service, kind):
    """`partial_success`: senders do not repeat those."""
    rejected, why = response_of(send(service, request(*BAD_SPANS, span(1)), kind))
    assert rejected == len(BAD_SPANS)
    for name in ("trace_id", "span_id", "parent_span_id"):
        assert name in why
    assert listed(service) == [run(service)["run_id"]]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (PROTOBUF, b"\xff\xff\xff"),
        (PROTOBUF, request(span(1)).SerializeToString()[:-1]),
        (PROTOBUF, b'{"resourceSpans": []}'),
        (JSON, b""),
        (JSON, b"{"),
        (JSON, b"[]"),
        (JSON, b"null"),
        (JSON, b'"text"'),
        (JSON, request(span(1)).SerializeToString()),
        (JSON, b'{"resourceSpans": {}}'),
        (JSON, b'{"resourceSpans": [[]]}'),
    ],
)
def test_what_is_no_trace_request_is_400(sqlite_service, kind, body):
    """Senders do not repeat a 400."""
    problem(send_body(sqlite_service, body, kind), 400)


def test_names_that_are_not_known_are_ignored(service):
    """Newer exporters may send unknown fields (OTLP 1.x), at any level."""
    value = orjson.loads(otlp_json(request(span(1))))
    value["new"] = {"deep": [1]}
    value["resourceSpans"][0]["new"] = 1
    actual = value["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    actual.update(
        new=None, kind="SPAN_KIND_SERVER", links=[{"traceId": TRACE.hex(), "spanId": span_id(7).hex(), "x": 1}]
    )
    assert response_of(send_body(service, orjson.dumps(value), JSON)) == (0, "")
    assert run(service)["status"] == "success"


def test_names_in_snake_case_are_understood(service):
    """As protobuf's own JSON may spell them."""
    actual = {
        "trace_id": TRACE.hex(),
        "span_id": span_id(1).hex(),
        "name": "job",
        "start_time_unix_nano": "1760000001000000000",
        "end_time_unix_nano": 1760000002000000000,
        "attributes": [{"key": "agent.run.agent_name", "value": {"string_value": "snake"}}],
    }
    body = {"resource_spans": [{"scope_spans": [{"spans": [actual]}]}]}
    assert response_of(send_body(service, orjson.dumps(body), JSON)) == (0, "")
    assert (run(service)["agent_name"], run(service)["duration_ms"]) == ("snake", 1000)


def test_ids_in_json_are_hex_in_either_case(service):
    """Never base64, which a hex text is as well."""
    body = otlp_json(request(span(1))).replace(TRACE.hex().encode(), TRACE.hex().upper().encode())
    send_body(service, body, JSON)
    assert run(service)["trace_id"] == TRACE.hex()


@pytest.mark.parametrize("kind", ENCODINGS)
def test_attributes_of_any_kind_and_size_are_kept_within_bounds(service, kind):
    """Megabytes, thousands of them, deep nesting, bytes, NaN, NUL: a bounded run and bounded steps."""
    deep = "x"
    for _ in range(7):
        deep = {"k": [deep]}
    odd = {
        "deep": deep,
        "bytes": b"\xff\x00",
        "nan": float("nan"),
        "inf": float("-inf"),
        "least": -(2**63),
        "nul": "a\0b",
        "nothing": None,
        "": "no name",
        "html": "<script>alert(1)</script>'; DROP TABLE agent_runs; --",
        "big": "y" * 5_000_000,
        **{f"many {n}": n for n in range(3000)},
    }
    spans = [span(1, attributes=odd, events=[("e" * 10_000, odd)]), span(2, 1, attributes=odd, name="n" * 100_000)]
    assert response_of(send(service, request(*spans), kind, compression="gzip")) == (0, "")
    context = run(service)["context_json"]
    assert context["html"] == odd["html"]
    assert "big" in context["dropped"]
    assert 40_000 < len(orjson.dumps(context)) < 2_000_000
    assert len(orjson.dumps(below(service, 1, "spans"))) < 2_000_000
    assert len(orjson.dumps(below(service, 1, "events"))) < 2_000_000


def test_odd_times_and_kinds_are_taken_as_they_can_be(service):
    """No times, times beyond the calendar, an end before the start, a kind and a status from the future."""
    end = 2**64 - 1
    spans = [
        span(1, start_time_unix_nano=0, end_time_unix_nano=0),
        span(2, start_time_unix_nano=end, end_time_unix_nano=end, trace=bytes(15) + b"\1"),
        span(3, end_time_unix_nano=1, trace=bytes(15) + b"\2", kind=99, status={"code": 99}),
    ]
    assert response_of(send(service, request(*spans))) == (0, "")
    assert run(service, 1, start_ns=0)["start_time"] == "1970-01-01T00:00:00.000000+00:00"
    latest = run(service, 2, bytes(15) + b"\1", start_ns=2**63 - 1)
    assert latest["start_time"] == "2262-04-11T23:47:16.854775+00:00"
    assert run(service, 3, bytes(15) + b"\2")["duration_ms"] == 0


def test_a_store_that_is_away_is_503_and_the_same_request_succeeds_later(sqlite_settings, serving):
    """With Retry-After, and never 500, at which senders give up."""
    quick = sqlite_settings.with_(db_busy_timeout_ms=50, db_max_retries=0)
    service = serving(quick)
    with closing(sqlite3.connect(quick.db_path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for kind, body in ((PROTOBUF, request(span(1)).SerializeToString()), (JSON, otlp_json(request(span(1))))):
            answer = send_body(service, body, kind)
            problem(answer, 503)
            assert int(answer.headers["Retry-After"]) > 0
        other.execute("ROLLBACK")
    send(service, request(span(1)))
    assert run(service)["status"] == "success"


@pytest.mark.parametrize("name", ["gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind"])
@pytest.mark.parametrize("value", [["chat"], {"a": 1}, b"chat", 7, None])
def test_odd_values_of_known_attributes_spare_their_neighbours(sqlite_service, name, value):
    """Attributes come from anywhere: the span is taken as it can be, and so are the others."""
    odd = span(2, 1, attributes={name: value})
    send(sqlite_service, request(span(1), odd, span(3)))
    assert len(listed(sqlite_service)) == 2
    assert len(below(sqlite_service, 1, "spans")) == 1


def test_a_resource_that_was_received_is_not_kept_in_memory(sqlite_service):
    """However many of them come, and whatever their size."""
    before = len(mapping._of_resource)
    for number in range(1, 6):
        send(sqlite_service, request(span(number), resource={"service.name": f"s-{number}", "big": "x" * 100_000}))
    assert len(mapping._of_resource) == before
