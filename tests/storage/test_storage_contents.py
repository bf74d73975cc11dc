"""The content of a row, put together in SQL, is that of the state that was written."""

from __future__ import annotations

from storage_cases import at, event_id, link, run

from otel_agent_telemetry.run_content import content_of, run_digest
from otel_agent_telemetry.storage import contents
from otel_agent_telemetry.storage.contents import iter_contents
from otel_agent_telemetry.storage.digests import day_digests, host_digests
from otel_agent_telemetry.storage.store import WriteBatch, write_batch

FULL = {
    "status": "failed",
    "end_time": at(9),
    "items_discovered": 7,
    "duration_ms": 1 << 40,
    "error_summary": "100 % naïve \u2028 'quoted'",
    "metrics_json": '{"gen_ai":{"input_tokens":3}}',
    "context_json": '{"a":1}',
    "host": "host-1",
    "trace_id": "a" * 32,
    "api_posted": 1,
    "api_posted_at": at(10),
}


def fill(database):
    records = [run(1), run(2, **FULL), run(3, output_summary="")]
    with database.writing() as connection:
        write_batch(connection, WriteBatch(records, [link(2)]))
    return {record.event_id: record.to_fields() for record in records}


def test_stored_contents_are_those_of_the_states(database, monkeypatch):
    """On either database, in pages; commits, postings and totals are no part of it."""
    monkeypatch.setattr(contents, "_AT_A_TIME", 2)
    states = fill(database)
    with database.reading() as connection:
        found = {one[0]: one for one in iter_contents(connection)}
    assert {key: one[3] for key, one in found.items()} == {key: content_of(one) for key, one in states.items()}
    assert found[event_id(2)][1:3] == ("failed", at(2))


def test_digests_of_a_day_are_those_of_its_states(database):
    """By host, and one by one."""
    states = fill(database)
    day = at(1)[:10]
    with database.reading() as connection:
        assert [(one.host, one.runs) for one in day_digests(connection, day)] == [("", 2), ("host-1", 1)]
        (found,) = host_digests(connection, day, "host-1", after=0, limit=10)
        assert day_digests(connection, "2001-01-01") == []
    assert (found.event_id, found.digest) == (event_id(2), run_digest(states[event_id(2)]))


def test_the_digest_does_not_depend_on_the_spelling_of_json():
    """A service writes it anew."""
    one, other = ({**FULL, "context_json": text} for text in ('{"a": 1, "b": [2.0]}', '{"b":[2.0],"a":1}'))
    assert run_digest(one) == run_digest(other)
    assert run_digest(one) != run_digest({**FULL, "context_json": '{"a": 2}'})
