"""Log records as events: what each sender means, wherever it writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue, KeyValueList

from otel_agent_telemetry.otel.log_records import read_logs
from otel_agent_telemetry.service.otlp_parsing import parse_json
from otel_agent_telemetry.service.otlp_signals import LOGS

CAPTURES = Path(__file__).parents[1] / "emitters" / "captures"
TRACE, SPAN = bytes(range(16)), bytes(range(8))


def event_of(service="app", **record):
    """The event of one log record."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    if service is not None:
        group.resource.attributes.add(key="service.name", value=AnyValue(string_value=service))
    attributes = record.pop("attributes", {})
    one = group.scope_logs.add().log_records.add(**record)
    one.attributes.extend(KeyValue(key=key, value=AnyValue(**value)) for key, value in attributes.items())
    (event,) = read_logs(request)
    return event


def text(value):
    return {"string_value": value}


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"attributes": {"event.name": text("user_prompt")}, "body": AnyValue(**text("x.user_prompt"))}, "user_prompt"),
        (
            {"attributes": {"event.name": text("codex.api_request")}, "event_name": "event src/a.rs:7"},
            "codex.api_request",
        ),
        ({"event_name": "gen_ai.evaluation.result"}, "gen_ai.evaluation.result"),
        ({"body": AnyValue(**text("claude_code.user_prompt"))}, "claude_code.user_prompt"),
        ({"body": AnyValue(**text("My password is hunter2"))}, ""),
        ({"body": AnyValue(int_value=7)}, ""),
        ({"attributes": {"event.name": {"int_value": 7}}, "event_name": "e"}, "e"),
        ({}, ""),
    ],
)
def test_the_name_is_found_where_senders_write_it(record, name):
    """The attribute, the field, a body that is a name; a body that says something is none."""
    assert event_of(**record).name == name


@pytest.mark.parametrize(
    ("record", "time_ns"),
    [
        ({"time_unix_nano": 5, "observed_time_unix_nano": 7}, 5),
        ({"observed_time_unix_nano": 7}, 7),
        ({"attributes": {"event.timestamp": text("1970-01-01T00:00:01Z")}}, 1_000_000_000),
        ({"attributes": {"event.timestamp": text("soon")}}, 0),
        ({"attributes": {"event.timestamp": text("1812-01-01")}}, 0),
        ({"time_unix_nano": 2**64 - 1}, 2**63 - 1),
        ({}, 0),
    ],
)
def test_the_time_is_found_where_senders_write_it(record, time_ns):
    """Codex sends only when it was observed; 0 is "not given"."""
    assert event_of(**record).time_ns == time_ns


def test_ids_of_another_length_are_none():
    """Also zeros, which some senders write for no span."""
    assert (event_of(trace_id=TRACE, span_id=SPAN).trace_id, event_of(span_id=SPAN).span_id) == (
        TRACE.hex(),
        SPAN.hex(),
    )
    for odd in (b"", bytes(16), TRACE[:15], TRACE * 2):
        assert event_of(trace_id=odd, span_id=odd[:7]).trace_id == ""
        assert event_of(trace_id=odd, span_id=odd[:7]).span_id == ""


def test_ids_that_are_written_as_text_are_read():
    """Logflare #3683: digits where protobuf has bytes; a strict receiver refused the whole request for one of them."""
    event = event_of(trace_id=TRACE.hex().upper().encode(), span_id=SPAN.hex().encode())
    assert (event.trace_id, event.span_id) == (TRACE.hex(), SPAN.hex())
    assert event_of(trace_id=b"z" * 32, span_id=b"\xff" * 16).trace_id == ""


def test_values_keep_their_types():
    """Numbers as int, double and text; nulls; maps and bytes as body."""
    attributes = {
        "a": {"int_value": 7},
        "b": {"double_value": 1.5},
        "c": text("181"),
        "d": {},
        "e": {"bool_value": True},
    }
    assert event_of(attributes=attributes).attributes == {"a": 7, "b": 1.5, "c": "181", "d": None, "e": True}
    body = AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="k", value=AnyValue(bytes_value=b"\xff"))]))
    assert event_of(body=body).body == {"k": b"\xff"}
    assert event_of().body is None
    assert [event_of(severity_number=number).severity for number in (0, 1, 9, 12, 24, 99)] == [
        *("", "TRACE", "INFO", "INFO", "FATAL", "")
    ]


def test_the_same_record_has_the_same_identity():
    """Whatever its resource has got on the way; another record has another."""
    first = event_of(time_unix_nano=5, event_name="e")
    assert first.identity == event_of(time_unix_nano=5, event_name="e").identity
    others = [event_of(time_unix_nano=6, event_name="e"), event_of(service="b", time_unix_nano=5, event_name="e")]
    assert len({first.identity, *(other.identity for other in others)}) == 3
    assert event_of(service=None).sender == ""
    # OpenTelemetry JS writes no body at all in one encoding and an empty one in another.
    assert event_of(time_unix_nano=5, body=AnyValue()).identity == event_of(time_unix_nano=5).identity


@pytest.mark.parametrize(
    ("capture", "sender", "expected"),
    [
        ("claude-code_logs_tool_call", "claude-code", {"user_prompt": 1, "api_request": 2, "tool_result": 1}),
        (
            "codex_logs_tool_call",
            "codex_exec",
            {"codex.user_prompt": 1, "codex.tool_result": 1, "codex.api_request": 2},
        ),
        ("gemini-cli_logs_tool_call", "gemini-cli", {"gemini_cli.user_prompt": 1, "gemini_cli.api_response": 2}),
    ],
)
def test_what_coding_agents_send_has_names_and_times(capture, sender, expected):
    """As the real programs sent it."""
    body = json.loads((CAPTURES / f"{capture}.json").read_text("utf-8"))["body"]
    events = list(read_logs(parse_json(json.dumps(body).encode(), LOGS).request))
    assert {event.sender for event in events} == {sender}
    assert all(event.time_ns > 0 for event in events)
    assert {name: sum(event.name == name for event in events) for name in expected} == expected
    assert len({event.identity for event in events}) == len(events)
