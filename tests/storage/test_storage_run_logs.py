"""Log records as events of runs, and figures of sessions, as far as the database alone decides."""

from __future__ import annotations

import pytest
from storage_cases import at, at_ns, run, statements
from trace_cases import TRACE, deliver, run_of

from otel_agent_telemetry.storage.row_retention import delete_old
from otel_agent_telemetry.storage.run_logs import RunLog, count_waiting
from otel_agent_telemetry.storage.session_metrics import SessionFigure, figures_between
from otel_agent_telemetry.storage.steps import EventLine
from otel_agent_telemetry.storage.store import Store, WriteBatch

SPAN = f"{1:016x}"


def log(number, *, trace=TRACE, span=SPAN, run_id="", name="note"):
    return RunLog("app", trace, span, run_id, name, at(number), at_ns(number), -number, "{}")


def figure(number, series="a"):
    return SessionFigure(series, 0, at_ns(number), at(number), "claude-code", "s", "commits", "", 1.0)


def events(database):
    return database.rows("SELECT event_type, event_id, writer FROM run_events ORDER BY event_type, writer")


@pytest.mark.parametrize("analyse", ["SELECT 1", "ANALYZE"])
def test_records_that_wait_are_found_by_index(sqlite_database, analyse):
    """Those of other traces and runs are not read, however many wait."""
    deliver(sqlite_database, WriteBatch(logs=[log(n, trace=f"{n:032x}") for n in range(1, 200)]))
    deliver(sqlite_database, WriteBatch(logs=[log(n, trace="", run_id=f"run-{n}") for n in range(1, 200)]))
    sqlite_database.execute(analyse)
    with statements() as asked:
        deliver(sqlite_database, WriteBatch((run(7, trace_id=TRACE, span_id=SPAN),)))
    lines = [line for line in sqlite_database.plans(asked) if "run_events_log" in line and "SEARCH" in line]
    assert [line for line in lines if "(trace_id=?)" in line]
    assert [line for line in lines if "(event_id=? AND run_id=?)" in line]
    with sqlite_database.reading() as connection:
        assert count_waiting(connection) == 397


def test_a_record_that_a_journal_has_brought_too_is_one_event(database):
    """In either order: the journal's line stands."""
    event_id = run_of(1).event_id
    line = EventLine(event_id, "run-1", "note", at(5), TRACE, "{}", 0, SPAN, at_ns(1), "w", 1)
    for order in (
        [WriteBatch(lines=[line]), WriteBatch(logs=[log(5)])],
        [WriteBatch(logs=[log(5)]), WriteBatch(lines=[line])],
    ):
        database.execute("DELETE FROM run_events")
        deliver(database, WriteBatch((run_of(1),)))
        for batch in (*order, *order):
            deliver(database, batch)
        assert [tuple(row) for row in events(database)] == [("note", event_id, "w")]


def test_figures_are_deleted_when_they_are_old(database):
    """By the time of the data point."""
    deliver(database, WriteBatch(figures=[figure(1), figure(100, "b")]))
    store = Store(database.config)
    delete_old(store, at(50))
    store.close()
    with database.reading() as connection:
        (found,) = figures_between(connection)
    assert found.figures == {"commits": 1}
