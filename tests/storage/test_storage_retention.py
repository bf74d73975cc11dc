"""Deleting what is old: nothing of it is left, and no writer waits for long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from storage_cases import at, run, statements
from trace_cases import deliver, names_of, step
from trace_cases import run as traced_run

from otel_agent_telemetry.storage.counts import RUNS_BETWEEN_PACKINGS, check_counts
from otel_agent_telemetry.storage.row_retention import BATCH_RUNS, OldRows, count_old, delete_old
from otel_agent_telemetry.storage.store import Store, write_batch

TABLES = ("agent_runs", "run_spans", "run_events", "run_rollups", "commits")


@pytest.fixture
def store(database):
    """The write door of that database."""
    opened = Store(database.config)
    yield opened
    opened.close()


def rows_left(database):
    return {name: number for name in TABLES if (number := database.rows(f"SELECT count(*) FROM {name}")[0][0])}


def test_a_late_step_of_a_deleted_run_is_deleted_in_its_turn(database, store):
    """The run around it stays, and is not given what belonged to the deleted one."""
    deliver(database, traced_run(1, status="running"), traced_run(2, 1), step(3, 2))
    assert delete_old(store, at(100)).runs == 1
    deliver(database, step(4, 2, tokens=5, count=1))
    assert database.rows("SELECT event_id FROM run_spans WHERE span_id LIKE '%4'") == [("",)]
    assert names_of(database, 1) == ["span 2"]
    assert names_of(database, 2) == []
    database.execute("UPDATE agent_runs SET status = 'success'")
    with database.reading() as connection:
        foretold = count_old(connection, at(1000))
    assert delete_old(store, at(1000)) == foretold == OldRows(runs=1, spans=2, events=1)
    assert rows_left(database) == {}


def test_an_orphan_is_not_adopted_into_a_run_that_is_gone(database):
    """The link that leads to it comes last of all."""
    deliver(database, traced_run(1), traced_run(3, 2))
    database.execute("DELETE FROM agent_runs WHERE run_id = 'run-3'")
    deliver(database, step(4, 3), step(2, 1))
    assert names_of(database, 1) == ["span 2", "span 3"]
    assert database.rows("SELECT event_id FROM run_spans WHERE span_id LIKE '%4'") == [("",)]


def test_a_step_that_is_being_written_goes_with_its_run(postgresql_database):
    """Retention waits for its commit; on SQLite there is one writer."""
    deliver(postgresql_database, traced_run(1))
    retention = Store(postgresql_database.config)
    with ThreadPoolExecutor(1) as pool:
        with postgresql_database.writing() as connection:
            write_batch(connection, step(2, 1, tokens=5, count=1))
            deleting = pool.submit(delete_old, retention, at(1000))
            waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while not postgresql_database.rows(waits):
                assert not deleting.done()
        assert deleting.result(30) == OldRows(runs=1, spans=1, events=1, rollups=1)
    retention.close()
    assert rows_left(postgresql_database) == {}


def test_deleting_leaves_few_lines_of_counts_at_any_time(postgresql_database):
    """As writing does: `/metrics` sums them."""
    many = 2 * RUNS_BETWEEN_PACKINGS
    store = Store(postgresql_database.config)
    store.write([run(number, status="success") for number in range(1, many)])
    store.close()
    retention, lines = Store(postgresql_database.config), []

    def look(_deleted, _total):
        lines.append(postgresql_database.rows("SELECT count(*) FROM run_counts")[0][0])

    before = postgresql_database.rows("SELECT count(*) FROM run_counts")[0][0]
    delete_old(retention, at(many), on_progress=look)
    retention.close()
    assert max(lines) <= before + RUNS_BETWEEN_PACKINGS + BATCH_RUNS
    assert postgresql_database.rows("SELECT count(*) FROM run_counts") == [(0,)]
    with postgresql_database.reading() as connection:
        assert check_counts(connection) == []


def test_before_it_deletes_it_counts_runs_alone(database, store):
    """A commit may have to wait for that count, and would wait many times as long for all the rest."""
    deliver(database, traced_run(1), step(2, 1))
    with statements() as asked:
        delete_old(store, at(1000))
    counts = [statement for statement, _ in asked if statement.startswith("SELECT count(*)")]
    assert counts
    assert [
        statement for statement in counts if "run_" in statement.replace("agent_runs", "").replace("run_id", "")
    ] == []
