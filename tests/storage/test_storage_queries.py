"""Reading runs back: filters, pages, children, open runs, figures."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as some
from sqlalchemy import text
from storage_cases import SECOND, T0, at, event_id, run

from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.storage.queries import (
    children_of,
    find_run,
    get_run,
    iter_open_runs,
    list_runs,
    page_of_runs,
    runs_beginning,
)
from otel_agent_telemetry.storage.rows import Cursor
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.run_stats import run_stats
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.steps import EventRow, SpanRow, add_events, add_spans, events_of, spans_of


def fill(database, records):
    with database.writing() as connection:
        upsert_runs(connection, records)


def listed(database, **filters):
    with database.reading() as connection:
        return [record.run_id for record in list_runs(connection, RunQuery(**filters))]


def test_a_record_is_read_as_it_was_written(database):
    """Every column, by either id."""
    kept = run(status="success", updated=3, items_failed=2**63 - 1, metrics_json='{"a":1}', trace_id="ab" * 16)
    fill(database, [kept])
    with database.reading() as connection:
        assert get_run(connection, event_id=kept.event_id) == kept
        assert get_run(connection, run_id=kept.run_id) == kept
        assert get_run(connection, run_id="other") is None
        assert get_run(connection) is None


def test_runs_are_listed_newest_first_with_limit_and_offset(database):
    """By `created_at`, whatever the order of arrival; the later row first where it is equal."""
    fill(database, [run(2), run(3), run(1), run(9, created_at=at(2))])
    assert listed(database) == ["run-3", "run-9", "run-2", "run-1"]
    assert listed(database, limit=2, offset=1) == ["run-9", "run-2"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"agent_name": "b"}, ["run-2"]),
        ({"status": "running"}, ["run-3", "run-1"]),
        ({"status": "success"}, ["run-2"]),
        ({"job_type": "job", "status": "failed"}, []),
        ({"run_id": "run-1"}, ["run-1"]),
        ({"trace_id": "t3"}, ["run-3"]),
        ({"parent_run_id": "run-1"}, ["run-3"]),
        ({"created_before": at(2)}, ["run-1"]),
        ({"created_after": at(2)}, ["run-3"]),
        ({"start_time_from": at(2)}, ["run-3", "run-2"]),
        ({"start_time_to": at(2)}, ["run-2", "run-1"]),
        ({"created_after": at(0), "created_before": at(9), "agent_name": "agent"}, ["run-3", "run-1"]),
    ],
)
def test_filters(database, filters, expected):
    """Created bounds exclude, start bounds include, and all of them hold together."""
    fill(
        database,
        [run(1), run(2, agent_name="b", status="success"), run(3, trace_id="t3", parent_run_id="run-1")],
    )
    assert listed(database, **filters) == expected


def test_pages_by_cursor_give_every_run_once(database):
    """Even with equal times, and with runs that arrive between two pages."""
    fill(database, [run(number, created_at=at(number // 4)) for number in range(1, 30)])
    seen, cursor = [], None
    while True:
        with database.reading() as connection:
            page = page_of_runs(connection, RunQuery(limit=7, cursor=cursor))
        if not page:
            break
        seen += [found.record.run_id for found in page]
        cursor = Cursor.from_text(page[-1].cursor.to_text())
        fill(database, [run(100 + len(seen), created_at=at(1000))])
    assert len(seen) == 29
    assert set(seen) == {f"run-{number}" for number in range(1, 30)}


@given(some.text(max_size=60))
def test_a_foreign_text_is_a_cursor_or_refused(word):
    """Any text is a cursor, or is refused with an error that names it."""
    with contextlib.suppress(RecordError):
        assert Cursor.from_text(word).id >= 0


@pytest.mark.parametrize("word", ["", "garbage", "LTE6eA", "żółw", "99999999999999999999999:x"])
def test_a_cursor_that_no_listing_gave_is_refused(word):
    """The error names the field."""
    with pytest.raises(RecordError) as caught:
        Cursor.from_text(word)
    assert caught.value.field == "cursor"


def test_the_latest_of_runs_sharing_an_id_is_found(database):
    """By `created_at`."""
    fill(database, [run(1), run(2, run_id="run-1", created_at=at(50)), run(3, run_id="run-1")])
    with database.reading() as connection:
        assert get_run(connection, run_id="run-1").event_id == event_id(2)
        assert find_run(connection, run_id="run-1", event_id=event_id(3)).record.event_id == event_id(3)


def test_children_are_found_oldest_first(database):
    """By the parent's run id."""
    fill(database, [run(3, parent_run_id="run-1"), run(2, parent_run_id="run-1"), run(1), run(4)])
    with database.reading() as connection:
        assert [child.run_id for child in children_of(connection, "run-1")] == ["run-2", "run-3"]


def test_open_runs_stream_past_one_reading(database):
    """Oldest first, only running ones, only those silent since the time given."""
    fill(database, [run(number) for number in range(1, 1105)] + [run(2000, status="failed")])
    with database.reading() as connection:
        assert [one.run_id for one in iter_open_runs(connection)] == [f"run-{number}" for number in range(1, 1105)]
        assert [one.run_id for one in iter_open_runs(connection, older_than=at(3))] == ["run-1", "run-2"]


def test_stats_count_what_there_is(database):
    """Totals by agent and status, and the last day to the second."""
    now = T0 + 90_000 * SECOND
    fill(
        database,
        [
            run(1, agent_name="a", created_at=at(0)),
            run(2, agent_name="a", created_at=at(3600), status="failed"),
            run(3, agent_name="b", created_at=at(3600.5)),
            run(4, agent_name="b", created_at=at(80_000)),
        ],
    )
    fill(database, [run(1, agent_name="b", created_at=at(0), status="success", updated=5)])
    with database.reading() as connection:
        assert run_stats(connection, now) == {
            "total_runs": 4,
            "agents": {"a": 1, "b": 3},
            "recent_24h": 2,
            "statuses": {"failed": 1, "running": 2, "success": 1},
        }


NOT_SUCCEEDED = "status <> 'running' AND status <> 'success'"


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT * FROM agent_runs ORDER BY created_at DESC, id DESC LIMIT 9", "ix_agent_runs_created_at"),
        (
            "SELECT * FROM agent_runs WHERE status = 'running' ORDER BY created_at, id",
            "ix_agent_runs_running",
        ),
        ("SELECT * FROM agent_runs WHERE parent_run_id = :wanted", "ix_agent_runs_parent_run_id"),
        ("SELECT * FROM agent_runs WHERE run_id = :wanted", "ix_agent_runs_run_id"),
        (
            f"SELECT * FROM agent_runs WHERE status = 'failed' AND {NOT_SUCCEEDED} ORDER BY created_at DESC LIMIT 9",
            "ix_agent_runs_not_succeeded",
        ),
        ("SELECT * FROM agent_runs WHERE event_id = :wanted", "ux_agent_runs_event_id"),
    ],
)
def test_reads_use_their_index(database, sql, index):
    """Without sorting, so that a page costs the same at any size."""
    plan = plan_of(database, sql)
    assert index in plan
    assert "TEMP B-TREE" not in plan
    assert re.search(r"(?<!Incremental )Sort +\(", plan) is None  # of equal times alone is no sorting of all


def plan_of(database, sql):
    """How the database would go about a query of a large table."""
    parameters = {"wanted": "x"} if ":wanted" in sql else {}
    with database.reading() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            connection.execute(text("SET LOCAL enable_sort = off"))
        how = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        return " ".join(row[-1] for row in connection.execute(text(f"{how} {sql}"), parameters))


def test_events_and_spans_are_kept_once_and_read_in_order(database):
    """The same span or event again is a no-op; they are read by time, then by place."""
    ids = {"event_id": event_id(1), "run_id": "run-1", "trace_id": "t"}
    events = [EventRow(n, RunEvent(**ids, event_type=f"e{n}", timestamp=at(9 - n), payload={"n": n})) for n in range(3)]
    step = {**ids, "parent_span_id": None, "name": "step", "attributes": {"a": [1]}}
    ended = RunSpan(**step, span_id="s1", start_time=at(2), end_time=at(3), status="ok", duration_ms=1000)
    first = RunSpan(**step, span_id="s0", start_time=at(1))
    with database.writing() as connection:
        for _ in range(2):
            add_events(connection, events)
            add_spans(connection, [SpanRow(ended), SpanRow(first), SpanRow(ended)])
        assert [event.payload for event in events_of(connection, event_id(1))] == [
            {"n": 2},
            {"n": 1},
            {"n": 0},
        ]
        assert spans_of(connection, event_id(1)) == [first, ended]
        assert spans_of(connection, event_id(2)) == []


@pytest.mark.parametrize(
    ("prefix", "expected"), [("run-1", ["run-10", "run-1"]), ("run-2", ["run-2"]), ("RUN", []), ("", [])]
)
def test_runs_are_found_by_how_their_id_begins(database, prefix, expected):
    """On PostgreSQL too, where the comparison is by code point as on SQLite."""
    fill(database, [run(1), run(2), run(10)])
    with database.reading() as connection:
        assert [record.run_id for record in runs_beginning(connection, prefix, limit=5)] == expected
