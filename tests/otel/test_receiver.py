"""An OTLP request as runs and spans."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.otel.receiver import SpanReceiver
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.run_id import span_event_id

TRACE = bytes(range(1, 17))
SECOND = 1_000_000_000


def span_id(number):
    return number.to_bytes(8, "big")


def attribute(key, value):
    kind = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value", bytes: "bytes_value"}
    return KeyValue(key=key, value=AnyValue(**{kind[type(value)]: value}))


def request(*spans, resource=None):
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    group.resource.attributes.extend(attribute(*pair) for pair in (resource or {"service.name": "shop"}).items())
    scope = group.scope_spans.add()
    for given in spans:
        values = {"trace_id": TRACE, "start_time_unix_nano": SECOND, "end_time_unix_nano": 3 * SECOND, **given}
        attributes = values.pop("attributes", {})
        events = values.pop("events", ())
        one = scope.spans.add(**values)
        one.attributes.extend(attribute(*pair) for pair in attributes.items())
        for name, at_ns, told in events:
            event = one.events.add(name=name, time_unix_nano=at_ns)
            event.attributes.extend(attribute(*pair) for pair in told.items())
    return made


def received(*spans, runs="root", capture=False, resource=None):
    return read(request(*spans, resource=resource), runs=runs, capture=capture)


def read(made, *, runs="root", capture=False):
    """Return what is stored of the spans of a request, and what else is known of it."""
    receiver = SpanReceiver(runs=runs, around=ResourceDefaults({}, capture_content=capture))
    found = receiver.read(made)
    return receiver.nodes_of(found.items, found), found


def records_of(found):
    return [RunRecord.from_fields(node.state) for node in found[0] if node.state is not None]


def nodes_of(found):
    return found[0]


def test_a_root_is_a_run_with_ids_and_times_of_its_span():
    """The row that live recording makes, as far as an ended span tells."""
    (run,) = records_of(received({"span_id": span_id(1), "name": "tidy"}))
    assert run.event_id == span_event_id(TRACE.hex(), span_id(1).hex(), SECOND)
    assert (run.agent_name, run.job_type, run.service_name) == ("shop", "tidy", "shop")
    assert (run.status, run.duration_ms) == ("success", 2000)
    assert (run.created_at, run.updated_at) == ("1970-01-01T00:00:01.000000+00:00", "1970-01-01T00:00:03.000000+00:00")
    assert run.run_id == f"19700101T000001Z-shop-{run.event_id[:8]}"


def test_the_same_request_gives_the_same_records():
    """A sender repeats what it got no answer for."""
    spans = ({"span_id": span_id(1), "name": "a"}, {"span_id": span_id(2), "parent_span_id": span_id(1), "name": "b"})
    assert received(*spans) == received(*spans)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("mine", "mine"), (" ", None), ("a/b", None), ("x" * 256, None), (7, None)],
)
def test_the_run_id_of_the_span_is_used_when_it_may_be(given, kept):
    """The rules of custom ids; else a generated one."""
    (run,) = records_of(received({"span_id": span_id(1), "name": "a", "attributes": {"agent.run.id": given}}))
    assert (run.run_id == kept) if kept else run.run_id.startswith("19700101T000001Z-shop-")


def test_steps_runs_inside_and_which_spans_are_runs():
    """By root, by convention, by mark."""
    spans = (
        {"span_id": span_id(1), "name": "GET /"},
        {"span_id": span_id(2), "parent_span_id": span_id(1), "name": "invoke_agent planner",
         "attributes": {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}},
        {"span_id": span_id(3), "parent_span_id": span_id(2), "name": "inner", "attributes": {"agent.run.item_name": "x"}},
        {"span_id": span_id(4), "parent_span_id": span_id(3), "name": "chat m", "attributes": {"gen_ai.operation.name": "chat"}},
    )  # fmt: skip
    for runs, expected in (("root", [True, True, True, False]), ("agents", [False, True, True, False])):
        found = received(*spans, runs=runs)
        assert [node.is_run for node in nodes_of(found)] == expected
        assert len(records_of(found)) == sum(expected)
    assert [node.is_run for node in nodes_of(received(*spans, runs="marked"))] == [False, False, True, False]


def test_an_agent_belongs_to_the_run_that_its_resource_names():
    """Its outermost span alone, and none that is no agent's: the rest of a program is nobody's command."""
    agent = {"gen_ai.operation.name": "invoke_agent"}
    spans = (
        {"name": "outer", "span_id": span_id(1), "attributes": agent},
        {"name": "inner", "span_id": span_id(2), "parent_span_id": span_id(1), "attributes": agent},
        {"name": "plumbing", "span_id": span_id(3)},
    )
    found = received(*spans, resource={"service.name": "copilot", "agent_run.id": "the run"})
    assert [(record.job_type, record.parent_run_id) for record in records_of(found)] == [
        ("outer", "the run"),
        ("inner", None),
        ("plumbing", None),
    ]


def test_an_exception_tells_how_the_run_ended():
    """Status, summary and details from the span's last exception event."""
    told = {"exception.type": "TimeoutError", "exception.message": "too long", "exception.stacktrace": "line 1"}
    failed = {"span_id": span_id(1), "name": "a", "status": {"code": 2}, "events": [("exception", 2 * SECOND, told)]}
    found = received(failed)
    (run,) = records_of(found)
    assert (run.status, run.error_summary, run.error_details) == ("timeout", "TimeoutError: too long", "line 1")
    (event,) = nodes_of(found)[0].events
    assert (event.event_type, event.timestamp) == ("exception", "1970-01-01T00:00:02.000000+00:00")


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ({"trace_id": b""}, "trace_id must be 16 bytes"),
        ({"trace_id": bytes(16)}, "trace_id must be 16 bytes"),
        ({"trace_id": b"x" * 24}, "trace_id must be 16 bytes"),
        ({"span_id": b"x"}, "span_id must be 8 bytes"),
        ({"span_id": bytes(8)}, "span_id must be 8 bytes"),
        ({"parent_span_id": b"xx"}, "parent_span_id must be empty or 8 bytes"),
    ],
)
def test_a_span_without_valid_ids_is_refused_and_spares_its_neighbours(broken, rule):
    """Counted, with the reason."""
    found = received({"span_id": span_id(1), "name": "bad", **broken}, {"span_id": span_id(2), "name": "good"})
    assert [run.job_type for run in records_of(found)] == ["good"]
    assert found[1].refused == 1
    assert found[1].reasons[0].startswith(rule)


def test_a_span_without_an_end_is_running():
    """As a run and as a step: it is no success that took no time."""
    open_span = {"name": "a", "end_time_unix_nano": 0}
    found = received(
        {"span_id": span_id(1), **open_span}, {"span_id": span_id(2), "parent_span_id": span_id(1), **open_span}
    )
    (run,) = records_of(found)
    assert (run.status, run.end_time, run.updated_at) == ("running", None, run.start_time)
    assert [(node.span.status, node.span.end_time) for node in nodes_of(found)] == [("running", None)] * 2


def test_a_pending_span_is_a_state_of_the_span_that_it_announces():
    """Logfire's: the announced span is called its parent, the announced span's parent is an attribute."""
    pending = {"logfire.span_type": "pending_span", "logfire.pending_parent_id": "0" * 16, "x": 1}
    found = received({"span_id": span_id(9), "parent_span_id": span_id(1), "name": "ask", "attributes": pending})
    (run,) = records_of(found)
    assert (run.status, run.job_type, run.span_id) == ("running", "ask", span_id(1).hex())
    assert run.event_id == span_event_id(TRACE.hex(), span_id(1).hex(), SECOND)
    assert run.context_json == '{"x":1}'

    inner = {**pending, "logfire.pending_parent_id": span_id(1).hex()}
    found = received({"span_id": span_id(9), "parent_span_id": span_id(2), "name": "step", "attributes": inner})
    (node,) = nodes_of(found)
    assert not records_of(found)
    assert (node.span.span_id, node.span.parent_span_id) == (span_id(2).hex(), span_id(1).hex())
    assert node.span.status == "running"


def test_a_span_with_odd_times_still_is_one():
    """An end before the start: as long as nothing."""
    (run,) = records_of(received({"span_id": span_id(1), "name": "a", "end_time_unix_nano": 5}))
    assert run.duration_ms == 0
    (run,) = records_of(received({"span_id": span_id(1), "name": "a", "end_time_unix_nano": 2**64 - 1}))
    assert run.end_time > run.start_time


def test_a_span_without_a_name_is_a_run_of_unknown_job():
    """OTLP does not forbid it."""
    assert records_of(received({"span_id": span_id(1), "name": ""}))[0].job_type == "unknown"


def test_secrets_are_masked_and_content_is_left_out_unless_asked_for():
    """In attributes and in events, as in live recording."""
    told = {"api_key": "sk-123456", "gen_ai.input.messages": "prompt", "plain": "kept"}
    spans = {"span_id": span_id(1), "name": "a", "attributes": told, "events": [("e", SECOND, told)]}
    child = {"span_id": span_id(2), "parent_span_id": span_id(1), "name": "b", "attributes": told}
    found = received(spans, child)
    texts = [records_of(found)[0].context_json, str(nodes_of(found)[0].events), str(nodes_of(found)[1].span.attributes)]
    for text in texts:
        assert "sk-123456" not in text
        assert "prompt" not in text
        assert "kept" in text
    assert "prompt" in records_of(received(spans, capture=True))[0].context_json


def test_credentials_in_the_repository_are_dropped():
    """The attribute of the convention comes from anybody's remote."""
    told = {"vcs.repository.url.full": "https://user:pa55word@github.com/o/r.git"}
    for given in ({"attributes": told}, {}):
        (run,) = records_of(
            received({"span_id": span_id(1), "name": "a", **given}, resource={**told, "service.name": "s"})
        )
        assert run.git_repo == "https://github.com/o/r.git"
        assert "pa55word" not in str(run)


def test_values_of_every_kind_are_read():
    """Nested lists and maps, bytes, nothing."""
    made = request({"span_id": span_id(1), "name": "a", "attributes": {"b": b"\x00\xff", "f": 1.5, "t": True}})
    span = made.resource_spans[0].scope_spans[0].spans[0]
    nested = span.attributes.add(key="nested").value.kvlist_value.values.add(key="list")
    nested.value.array_value.values.add(int_value=1)
    nested.value.array_value.values.add()
    span.attributes.add(key="nothing")
    found = read(made)
    assert '"nested":{"list":[1,null]}' in records_of(found)[0].context_json


def test_spans_that_are_their_own_ancestors_are_taken_with_a_warning():
    """One of each circle is named; a span whose parent is elsewhere is none."""
    parents = ((1, 2), (2, 1), (3, 3), (4, 9), (5, 4))
    circles = request(*({"span_id": span_id(own), "parent_span_id": span_id(parent)} for own, parent in parents))
    nodes, found = read(circles)
    assert (len(nodes), found.refused) == (5, 0)
    assert [reason.split(":")[0] for reason in found.reasons] == [f"span {1:016x}", f"span {3:016x}"]
