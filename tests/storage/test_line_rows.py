"""Events of a journal as rows: the quick way and the thorough one make the same row, and both mask."""

from __future__ import annotations

import orjson
import pytest

from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.redaction import REDACTED
from otel_agent_telemetry.storage.line_rows import UsualEvents, event_row

TOKEN = "ghp_" + "a1B2" * 9


def an_event(number=1, **more):
    """The record of a line as a recorder writes it."""
    return {
        "record_type": "event",
        "writer": "20260131T120000-1-0000abcd",
        "seq": number,
        "event_id": "00000000-0000-4000-8000-000000000001",
        "run_id": "run-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "00f067aa0ba902b7",
        "event_type": "step done",
        "timestamp": "2026-01-31T12:00:00.000001+00:00",
        "payload": {"n": number, "file": "docs/page.md", "none": None, "share": 0.5, "done": True},
        **more,
    }


def rows_of(*records):
    """Line → row, of what the quick way takes."""
    events = UsualEvents()
    for line, record in enumerate(records, 1):
        events.take(line, record)
    return dict(events.rows())


ODD = {
    "no payload": {"payload": None},
    "nested": {"payload": {"list": [1, {"a": "b"}]}},
    "text": {"payload": "text"},
    "secret name": {"payload": {"password": "p"}},
    "secret text": {"payload": {"text": f"with {TOKEN}"}},
    "secret type": {"event_type": f"used {TOKEN}"},
    "name and value": {"payload": {"name": "Cookie", "value": "a=b"}},
    "other zone": {"timestamp": "2026-01-31T13:00:00.000001+01:00"},
    "upper case": {"event_id": "0AF76519-16CD-43DD-8448-EB211C80319C", "trace_id": "0AF7651916CD43DD8448EB211C80319C"},
    "run id in words": {"run_id": "a run\twith a tab"},
    "by run id alone": {"event_id": None},
    "no span": {"span_id": None, "trace_id": ""},
    "unknown member": {"more": 1},
    "no writer": {"writer": None, "seq": None},
    "large integer": {"payload": {"n": 1 << 80}},
    "lone surrogate": {"payload": {"text": "\ud800"}},
    "NUL": {"payload": {"text": "a\x00b"}, "event_type": "a\x00b"},
    "commit": {"event_type": "agent.run.commit"},
    "many members": {"payload": {f"m{number}": number for number in range(100)}},
}


@pytest.mark.parametrize("odd", ODD)
def test_both_ways_make_the_same_row(odd):
    """Of a record among others; the quick way may leave a record to the other."""
    records = [an_event(1), an_event(2, **ODD[odd]), an_event(3)]
    found = rows_of(*records)
    assert {1, 3} <= found.keys()
    for line, row in found.items():
        assert row == event_row(records[line - 1])
    row = found.get(2) or event_row(records[1])
    assert TOKEN not in repr(row)
    assert ("secret" in odd or odd == "name and value") == (REDACTED in repr(row))


def test_a_secret_among_many_events_is_masked_and_the_others_stay():
    """Payloads are checked together, so the one with a secret is looked for."""
    records = [an_event(number, payload={"n": number, "text": f"page {number}"}) for number in range(1, 201)]
    records[99]["payload"]["text"] = f"Authorization: Bearer {TOKEN}"
    payloads = {line: orjson.loads(row.payload_json) for line, row in rows_of(*records).items()}
    assert TOKEN not in repr(payloads)
    assert [line for line in payloads if payloads[line] != {"n": line, "text": f"page {line}"}] == [100]


@pytest.mark.parametrize(
    "wrong", [{"seq": 0}, {"seq": True}, {"seq": 1 << 63}, {"writer": "a b"}, {"writer": 1}, {"timestamp": "today"}]
)
def test_the_quick_way_takes_nothing_that_breaks_a_rule(wrong):
    """The other one refuses it."""
    assert rows_of(an_event(**wrong)) == {}
    with pytest.raises(RecordError):
        event_row(an_event(**wrong))


@pytest.mark.parametrize("event_type", ["agent.run.deleted", "agent.runs.retention", "agent.line.purged"])
def test_marks_of_deletions_are_no_events(event_type):
    """They are asked for by a call of their own."""
    assert rows_of(an_event(event_type=event_type)) == {}
