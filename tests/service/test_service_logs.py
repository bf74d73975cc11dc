"""`POST /v1/logs`: log records become events of their runs, in whatever order records and spans arrive."""

from __future__ import annotations

import itertools
import json

import pytest
from otlp_requests import (
    ENCODINGS,
    JSON,
    PROTOBUF,
    TRACE,
    any_value,
    below,
    log,
    logs,
    otlp_json,
    request,
    response_of,
    rows_of,
    run_of,
    send,
    send_body,
    span,
    span_id,
)
from running import emptied
from service_cases import at, ended, event_id, post_states, problem

from otel_agent_telemetry.operations.check_logs import check_logs
from otel_agent_telemetry.service.otlp_signals import LOGS
from otel_agent_telemetry.storage import run_logs
from otel_agent_telemetry.storage.engine import make_engine, reading

OTHER = bytes.fromhex("ab" * 16)


def events(service, number=1):
    """Type and payload of each event of the run that a span is."""
    return [(event["event_type"], event["payload"]) for event in below(service, number, "events")]


def read(service, query):
    engine = make_engine(service.settings)
    with reading(engine, "reading") as connection:
        found = query(connection)
    engine.dispose()
    return found


def waiting(service):
    return read(service, run_logs.count_waiting)


def senders(service):
    return read(service, run_logs.senders_not_kept)


@pytest.mark.parametrize("kind", ENCODINGS)
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_log_record_of_a_run_is_its_event(sqlite_service, kind, compression):
    """Its attributes and body are the payload; the answer is in the encoding of the request."""
    send(sqlite_service, request(span(1)))
    sent = logs(log(1.5, "order.placed", span=1, attributes={"n": 7}, body=any_value("three of them")))
    answer = send(sqlite_service, sent, kind, compression=compression)
    assert response_of(answer, LOGS) == (0, "")
    assert events(sqlite_service) == [("order.placed", {"body": "three of them", "n": 7})]
    (stored,) = below(sqlite_service, 1, "events")
    assert (stored["timestamp"], stored["trace_id"], stored["span_id"]) == (at(1.5), TRACE.hex(), span_id(1).hex())


def test_any_order_and_repetition_ends_the_same(service):
    """Of root, step, a run inside, and records of each, of no span, and of a span that never came."""
    inside = span(3, 2, attributes={"agent.run.agent_name": "helper"})
    parts = [
        request(span(1)),
        request(span(2, 1), inside),
        logs(log(1, "of root", span=1), log(2, "of step", span=2), log(3, "of inside", span=3)),
        logs(log(4, "of trace"), log(5, "of nobody", span=9)),
    ]
    found = []
    for order in itertools.permutations(parts):
        emptied(service)
        for part in (*order, order[0]):
            send(service, part)
        found.append(rows_of(service)["run_events"])
        if len(found) == 1:
            assert [name for name, _ in events(service)] == ["of root", "of step", "of trace", "of nobody"]
            assert [name for name, _ in events(service, 3)] == ["of inside"]
    assert all(rows == found[0] for rows in found)
    assert waiting(service) == 0


def test_records_that_come_first_wait_for_their_run(service):
    """Of a run that is posted as a state, of one that only its run id names, of a root that never arrives."""
    named = {"agent_run.id": "run-7"}
    unsent = {"trace_id": b"", "trace": b""}
    send(
        service, logs(log(1, "by name", attributes=named, **unsent), log(1, "by name too", attributes=named, **unsent))
    )
    send(service, logs(log(1, "by trace", trace=OTHER), log(1, "never")))
    assert waiting(service) == 4
    assert post_states(service, ended(7), ended(8, trace_id=OTHER.hex(), span_id=span_id(8).hex())) == ["created"] * 2
    assert waiting(service) == 1
    for number, names in ((7, ["by name", "by name too"]), (8, ["by trace"])):
        answer = service.client.get(f"/api/v1/runs/{event_id(number)}/events").json()
        assert sorted(event["event_type"] for event in answer) == names
        assert {event["run_id"] for event in answer} == {f"run-{number}"}


def test_a_record_of_no_run_is_only_counted(sqlite_service, monkeypatch):
    """By the name of its service; names past a number are counted together, and nothing of it is stored."""
    monkeypatch.setattr(run_logs, "MAX_SENDERS", 2)
    for name in ("web", "web", "db", "cron"):
        record = log(1, "secret.plan", trace=b"", attributes={"prompt": "my knee hurts"})
        send(sqlite_service, logs(record, record, resource={"service.name": name}))
    send(sqlite_service, logs(log(1, trace=b""), resource={}))
    assert senders(sqlite_service) == {"web": 4, run_logs.OTHERS: 3, "db": 2}
    assert rows_of(sqlite_service)["run_events"] == []


def test_what_was_only_counted_is_shown(sqlite_service):
    """By `/metrics` in both formats, by the page of the service's state and by `doctor`."""
    record = log(1, trace=b"")
    send(sqlite_service, logs(record, record, log(1, trace=OTHER), resource={"service.name": "<web>"}))
    client = sqlite_service.client
    assert client.get("/metrics").json()["logs_not_kept"] == {"<web>": 2}
    assert 'agent_telemetry_logs_not_kept_total{sender="<web>"} 2.0' in client.get("/metrics/prometheus").text
    assert (
        '<td>&lt;web&gt;</td><td class="figure">2</td>' in client.get("/status", headers={"Accept": "text/html"}).text
    )
    texts = [finding.text for finding in check_logs(sqlite_service.settings)]
    assert "2 log records named no run and were not kept, of <web> (2);" in texts[0]
    assert texts[1] == "1 log records wait for the run of their trace"


def test_what_waits_is_bounded(sqlite_service, monkeypatch):
    """The oldest records of traces that never get a run make place for newer ones."""
    monkeypatch.setattr(run_logs, "MAX_WAITING", 100)
    for part in range(8):
        send(sqlite_service, logs(*[log(number, f"e{part}-{number}", trace=OTHER) for number in range(100)]))
    assert waiting(sqlite_service) <= 200
    names = {row[2] for row in rows_of(sqlite_service)["run_events"]}
    assert "e7-99" in names
    assert "e0-0" not in names


def test_content_is_left_out_and_counted(sqlite_service):
    """Also under names of coding agents, and in a body that is a map; secrets are masked everywhere."""
    send(sqlite_service, request(span(1)))
    attributes = {"gen_ai.prompt": "my knee hurts", "gen_ai.usage.input_tokens": 7, "password": "hunter2"}
    send(
        sqlite_service,
        logs(
            log(1, "gen_ai.client.inference.operation.details", span=1, attributes=attributes),
            log(2, "gen_ai.user.message", span=1, body=any_value({"content": "my knee hurts", "role": "user"})),
            log(3, "sk-live-4eC39HqLyjWDarjtT1zdp7dc", span=1),
        ),
    )
    text = json.dumps(rows_of(sqlite_service)["run_events"])
    assert "knee" not in text
    assert "hunter2" not in text
    assert "4eC39Hq" not in text
    (_, first), (_, second), _ = events(sqlite_service)
    assert first["dropped"] == {"gen_ai.prompt": 1}
    assert first["gen_ai.usage.input_tokens"] == 7
    assert second["role"] == "user"


def test_a_deleted_trace_takes_no_late_records(sqlite_service):
    """Those that were written before it was deleted."""
    send(sqlite_service, request(span(1)))
    assert sqlite_service.client.delete(f"/api/v1/runs/{run_of(1)}").status_code == 200
    send(sqlite_service, logs(log(-5, span=1)))
    assert rows_of(sqlite_service)["run_events"] == []


def test_lines_of_a_journal_are_no_events(sqlite_service):
    """A collector reads them as logs; they have a way of their own."""
    send(sqlite_service, request(span(1)))
    send(sqlite_service, logs(log(1, "agent.run.state", span=1, attributes={"agent.telemetry.writer": "w"})))
    assert events(sqlite_service) == []


ODD = {
    "an empty record": {},
    "nulls": {"body": None, "attributes": None, "traceId": None, "severityNumber": None, "timeUnixNano": None},
    "a null value": {"attributes": [{"key": "a", "value": None}, {"key": "b", "value": {"stringValue": None}}, None]},
    "integers as text": {"attributes": [{"key": "a", "value": {"intValue": "181"}}], "severityNumber": "9"},
    "a severity by name": {"severityNumber": "INFO"},
    "a severity that is none": {"severityNumber": {"a": 1}},
    "ids in base64": {"traceId": "CvdlGRbNQ92ESOshHIAxnA==", "spanId": "AAAAAAAAAAE="},
    "ids of another length": {"traceId": TRACE.hex()[:30], "spanId": "abc"},
    "an id that is none": {"traceId": "xyz", "spanId": 7},
    "a time in ISO 8601": {"timeUnixNano": "2025-10-09T08:53:22Z"},
    "names of protobuf": {"time_unix_nano": 5, "trace_id": TRACE.hex(), "severity_text": "WARN", "event_name": "e"},
    "the same attribute twice": {"attributes": [{"key": "a", "value": {"intValue": 1}}] * 2},
    "a body that is a text": {"body": "just text"},
    "a body that is nothing, PostHog #45351": {"body": {}},
    "a null inside a map, opentelemetry-python #4400": {
        "body": {"kvlistValue": {"values": [{"key": "a", "value": {}}, {"key": "b"}, {"key": "c", "value": None}]}}
    },
    "a body that is a map": {"body": {"kvlistValue": {"values": [{"key": "k", "value": {"bytesValue": "/w=="}}]}}},
    "a lone surrogate": {"body": {"stringValue": "a\ud800b"}},
    "an unknown field": {"brandNew": [1, 2]},
    "a huge body": {"body": {"stringValue": "x" * 3_000_000}},
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_record_is_taken_with_its_neighbours(sqlite_service, name):
    """What has a meaning is kept, the rest of the record is left away; nothing is refused."""
    send(sqlite_service, request(span(1)))
    value = json.loads(otlp_json(logs(log(1, "before", span=1), log(2, "after", span=1))))
    value["resourceLogs"][0]["scopeLogs"][0]["logRecords"].insert(1, ODD[name])
    answer = send_body(sqlite_service, json.dumps(value).encode(), JSON, path="/v1/logs")
    assert (answer.status_code, response_of(answer, LOGS)) == (200, (0, ""))
    assert {"before", "after"} <= {event for event, _ in events(sqlite_service)}


def test_a_record_that_has_no_meaning_is_counted(sqlite_service):
    """In `rejected_log_records`, with the reason; its neighbours are stored."""
    send(sqlite_service, request(span(1)))
    value = json.loads(otlp_json(logs(log(1, "before", span=1), log(2, "after", span=1))))
    value["resourceLogs"][0]["scopeLogs"][0]["logRecords"].insert(1, {"timeUnixNano": "yesterday"})
    answer = send_body(sqlite_service, json.dumps(value).encode(), JSON, path="/v1/logs")
    assert (answer.status_code, response_of(answer, LOGS)) == (200, (1, "timeUnixNano is not a time"))
    broken = logs(log(1, "QQQQ", span=1)).SerializeToString().replace(b"QQQQ", b"Q\xff\xfeQ")
    assert response_of(send_body(sqlite_service, broken, PROTOBUF, path="/v1/logs"), LOGS) == (0, "")
    assert {"before", "after", "Q\ufffd\ufffdQ"} == {event for event, _ in events(sqlite_service)}


@pytest.mark.parametrize("path", ["/v1/logs", "/v1/metrics"])
def test_what_is_no_request_is_answered_as_the_specification_has_it(sqlite_service, path):
    """400 for what is not OTLP, 415 for another type, 413 for what is too large, in the encoding of the request."""
    assert "Export" in problem(send_body(sqlite_service, b"\xff\xff", PROTOBUF, path=path), 400)
    problem(send_body(sqlite_service, b"[]", JSON, path=path), 400)
    group = f"resource{path.removeprefix('/v1/').capitalize()}"
    problem(send_body(sqlite_service, json.dumps({group: ["AAA"]}).encode(), JSON, path=path), 400)
    problem(send_body(sqlite_service, b"{", JSON, path=path), 400)
    problem(send_body(sqlite_service, b"{}", "text/plain", path=path), 415)
    assert send_body(sqlite_service, b"{}", JSON, path=path).json() == {}
    assert send_body(sqlite_service, b"", PROTOBUF, path=path).content == b""
    zeros = b"\0" * (sqlite_service.settings.api_max_body_bytes + 1)
    problem(send_body(sqlite_service, zeros, PROTOBUF, path=path, compression="gzip"), 413)


def test_log_records_at_the_door_of_spans_are_refused_one_by_one(sqlite_service):
    """Langfuse #15707: the messages share their field numbers, so that they decode as spans without ids."""
    answer = send_body(sqlite_service, logs(log(1), log(2)).SerializeToString(), PROTOBUF)
    assert (answer.status_code, response_of(answer)[0]) == (200, 2)
    sent = request(span(1)).SerializeToString()
    assert send_body(sqlite_service, sent, PROTOBUF, path="/v1/logs").status_code == 200
    assert rows_of(sqlite_service)["run_events"] == []


def test_a_record_without_a_time_or_a_name_is_an_event_all_the_same(sqlite_service):
    """Of the time when it came; sent again it is the same."""
    send(sqlite_service, request(span(1)))
    plain = log(0, "", span=1, time_unix_nano=0, severity_number=17, body=any_value("disk full"), attributes={"n": 1})
    for _ in range(2):
        send(sqlite_service, logs(plain))
    assert events(sqlite_service) == [("log", {"severity": "ERROR", "body": "disk full", "n": 1})]


def test_a_resource_can_name_the_run(sqlite_service):
    """What a command started by a run sends carries its id in OTEL_RESOURCE_ATTRIBUTES."""
    post_states(sqlite_service, ended(7))
    send(sqlite_service, logs(log(1, trace=b""), resource={"agent_run.id": "run-7"}))
    assert len(sqlite_service.client.get(f"/api/v1/runs/{event_id(7)}/events").json()) == 1
