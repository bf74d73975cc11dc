"""One odd span does not fail the others: it is repaired where it has one meaning, else refused with its reason."""

from __future__ import annotations

import base64
import json

import pytest
from google.protobuf.internal.encoder import _VarintBytes
from otlp_requests import (
    JSON,
    PROTOBUF,
    TRACE,
    any_value,
    otlp_json,
    request,
    response_of,
    run_of,
    send_body,
    span,
    span_id,
)
from service_cases import SECOND, T0, listed

START = T0 + 2 * SECOND


def stored(service, number):
    """The columns of the run that a span is; None when it is not stored."""
    answer = service.client.get(f"/api/v1/runs/{run_of(number)}")
    return answer.json() if answer.status_code == 200 else None


def nested(depth):
    value = {"stringValue": "inside"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return value


def attribute(value, key="app.odd"):
    return {"attributes": [{"key": key, "value": value}]}


REPAIRED = {
    "ids in base64": {
        "traceId": base64.b64encode(TRACE).decode(),
        "spanId": base64.b64encode(span_id(2)).decode(),
    },
    "ids in upper case": {"traceId": TRACE.hex().upper(), "spanId": span_id(2).hex().upper()},
    "an ISO time": {"startTimeUnixNano": "2025-10-09T08:53:22Z", "endTimeUnixNano": "2025-10-09T08:53:23+00:00"},
    "a time as a float": {"startTimeUnixNano": str(START) + ".0"},
    "flags as text": {"flags": "1"},
    "flags as hexadecimal nothing": {"flags": None},
    "an integer beyond 64 bits": attribute({"intValue": "99999999999999999999"}),
    "an integer that is a float": attribute({"intValue": 1.5}),
    "an integer that is none": attribute({"intValue": "many"}),
    "a double that is none": attribute({"doubleValue": "fast"}),
    "a boolean as text": attribute({"boolValue": "true"}),
    "bytes that are no base64": attribute({"bytesValue": "%%%"}),
    "a text that is a number": attribute({"stringValue": 7}),
    "a null in a list": {"attributes": [None, {"key": "a", "value": {"stringValue": "b"}}]},
    "a null among values": attribute({"arrayValue": {"values": [None, {"intValue": 1}]}}),
    "a list that is null": attribute({"arrayValue": {"values": None}}),
    "a null value": attribute(None),
    "attributes that are null": {"attributes": None},
    "attributes that are an object": {"attributes": {"a": 1}},
    "events with nulls": {"events": [None, {"name": "e", "timeUnixNano": str(START), "attributes": [None]}]},
    "an event with an ISO time": {"events": [{"name": "e", "timeUnixNano": "2025-10-09T08:53:22.5Z"}]},
    "a link with odd ids": {"links": [None]},
    "a lone surrogate": {"name": "a\ud800b"},
    "a key that is no text": {"attributes": [{"key": 7, "value": {"intValue": 1}}]},
    "a value nested deeply": attribute(nested(40)),
    "names of protobuf": {"start_time_unix_nano": START},
}
REFUSED = {
    "an id of odd length": {"spanId": "abc"},
    "an id that is none": {"traceId": "xyz"},
    "an id that is a number": {"spanId": 7},
    "a negative time": {"startTimeUnixNano": -1},
    "a time that is none": {"startTimeUnixNano": "yesterday"},
    "a time beyond 64 bits": {"endTimeUnixNano": "99999999999999999999"},
    "a name that is an object": {"name": {}},
}


def sent(service, odd):
    """The answer to a request of three spans, the middle one odd."""
    value = json.loads(otlp_json(request(span(1), span(2), span(3))))
    spans = value["resourceSpans"][0]["scopeSpans"][0]["spans"]
    for name in odd:
        spans[1].pop("startTimeUnixNano" if name == "start_time_unix_nano" else name, None)
    spans[1] |= odd
    answer = send_body(service, json.dumps(value).encode(), JSON)
    assert answer.status_code == 200, answer.text
    assert stored(service, 1) is not None
    assert stored(service, 3) is not None
    return response_of(answer)


@pytest.mark.parametrize("name", REPAIRED)
def test_a_span_that_has_one_meaning_is_stored(sqlite_service, name):
    """With its neighbours; nothing is refused."""
    assert sent(sqlite_service, REPAIRED[name]) == (0, "")
    assert stored(sqlite_service, 2)["start_time"].startswith("2025-10-09T08:53:22")


@pytest.mark.parametrize("name", REFUSED)
def test_a_span_that_has_no_meaning_is_counted(sqlite_service, name):
    """In `partial_success`, with the reason; its neighbours are stored."""
    number, reason = sent(sqlite_service, REFUSED[name])
    assert number == 1
    assert reason
    assert len(listed(sqlite_service)) == 2


def test_a_resource_that_cannot_be_read_leaves_its_spans(sqlite_service):
    """They are stored without it."""
    value = json.loads(otlp_json(request(span(1))))
    value["resourceSpans"][0]["resource"] = {"attributes": [{"key": "a", "value": {"kvlistValue": 7}}], "x": []}
    value["resourceSpans"].insert(0, None)
    answer = send_body(sqlite_service, json.dumps(value).encode(), JSON)
    assert (answer.status_code, response_of(answer)) == (200, (0, ""))
    assert stored(sqlite_service, 1) is not None


# Protobuf


def field(number, content):
    """A length-delimited field in protobuf's wire format."""
    return _VarintBytes(number << 3 | 2) + _VarintBytes(len(content)) + content


def protobuf_request(*spans, resource=b""):
    """A request of encoded spans."""
    return field(1, field(1, resource) + field(2, b"".join(field(2, one) for one in spans)))


@pytest.mark.parametrize("compressed", [False, True])
def test_text_that_is_no_utf8_is_repaired(sqlite_service, compressed):
    """In a name, a key, a value, an event and the resource; the neighbours are as they were."""
    odd = span(2, attributes={"app.QQQQ": "QQQQ"}, events=[("QQQQ", {"QQQQ": ["QQQQ", {"QQQQ": 1}]})], name="work QQQQ")
    body = protobuf_request(
        span(1).SerializeToString(),
        odd.SerializeToString().replace(b"QQQQ", b"Q\xff\xfeQ"),
        span(3).SerializeToString(),
        resource=request(span(1), resource={"service.name": "QQQQ"})
        .resource_spans[0]
        .resource.SerializeToString()
        .replace(b"QQQQ", b"Q\xff\xfeQ"),
    )
    answer = send_body(sqlite_service, body, PROTOBUF, compression="gzip" if compressed else None)
    assert (answer.status_code, response_of(answer)) == (200, (0, ""))
    assert [stored(sqlite_service, number)["job_type"] for number in (1, 2, 3)] == [
        "span 1", "work Q\ufffd\ufffdQ", "span 3",
    ]  # fmt: skip
    assert stored(sqlite_service, 1)["service_name"] == "Q\ufffd\ufffdQ"


def test_a_value_nested_deeper_than_the_parser_goes_is_refused_by_itself(sqlite_service):
    """Whatever its depth; the neighbours are stored."""
    deep = any_value("inside").SerializeToString()
    for _ in range(5_000):
        deep = field(5, field(1, deep))
    odd = span(2).SerializeToString() + field(9, field(1, b"app.deep") + field(2, deep))
    answer = send_body(
        sqlite_service, protobuf_request(span(1).SerializeToString(), odd, span(3).SerializeToString()), PROTOBUF
    )
    number, reason = response_of(answer)
    assert (answer.status_code, number) == (200, 1)
    assert "nested" in reason
    assert stored(sqlite_service, 1) is not None
    assert stored(sqlite_service, 3) is not None


def test_a_span_that_is_no_span_is_refused_by_itself(sqlite_service):
    """Rubbish in the place of one."""
    answer = send_body(sqlite_service, protobuf_request(b"\xff\xff\xff", span(3).SerializeToString()), PROTOBUF)
    assert (answer.status_code, response_of(answer)[0]) == (200, 1)
    assert stored(sqlite_service, 3) is not None
