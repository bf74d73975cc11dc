"""What is looked for by keys is found through an index, however many keys and rows there are."""

from __future__ import annotations

import pytest
from storage_cases import Database, at, event_id, run, statements
from trace_cases import TRACE, deliver, run_of, step

from otel_agent_telemetry.storage.copied_tables import COPIED, batches, stored_in
from otel_agent_telemetry.storage.queries import children_of, list_runs, page_of_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.store import WriteBatch, merged_batch

OTHER = TRACE[::-1]
ORPHANS_OF_OTHERS = """
    INSERT INTO run_spans (event_id, run_id, trace_id, span_id, parent_span_id, name, kind, status, start_time)
    SELECT :event_id, '', lpad(to_hex(i / 10), 32, '0'), lpad(to_hex(i), 16, '0'), 'p', 's', 'k', 'ok', '2026'
    FROM generate_series(CAST(:first AS integer), CAST(:last AS integer)) AS i"""
RUNS_OF_OTHERS = """
    INSERT INTO agent_runs (event_id, run_id, created_at, updated_at, start_time, agent_name, job_type, status)
    SELECT i, 'r' || i, '2026', '2026', '2026', 'agent', 'job', 'success' FROM generate_series(1, 30000) AS i"""


def two_traces():
    """Four steps in each of two traces, and the states of their runs."""
    steps = [step(number, number - 1, count=1, trace=trace) for trace in (TRACE, OTHER) for number in (2, 3, 4, 5)]
    return merged_batch([*steps, WriteBatch((run_of(1), run_of(1, trace=OTHER)))])


def searches(asked):
    """The statements but those that ask whether a table has any row, of which one is read."""
    return [(statement, parameters) for statement, parameters in asked if not statement.endswith(" LIMIT 1")]


def test_a_request_of_spans_reads_no_table_and_no_orphan_but_its_own(sqlite_database):
    """Neither the second time, nor once the table was analysed."""
    for analyse in ("SELECT 1", "ANALYZE"):
        sqlite_database.execute(analyse)
        with statements() as asked:
            deliver(sqlite_database, two_traces())
        lines = sqlite_database.plans(searches(asked))
        assert [line for line in lines if line.startswith(("SCAN run_", "SCAN agent_"))] == []
        spans = [line for line in lines if "run_spans" in line]
        assert spans
        assert [line for line in spans if "trace_id=? AND" not in line] == []


def test_a_run_of_its_own_looks_for_its_own_orphans(sqlite_database):
    """By parent: what waits in the same trace for another span is not read."""
    deliver(sqlite_database, step(9, 8))
    with statements() as asked:
        deliver(sqlite_database, WriteBatch((run_of(1), run_of(2), run_of(1, trace=OTHER))))
    by_ids, by_parent = (line for line in sqlite_database.plans(searches(asked)) if "run_spans" in line)
    assert "(trace_id=? AND span_id=?)" in by_ids
    assert "(event_id=? AND trace_id=? AND parent_span_id=?)" in by_parent


def test_postgresql_looks_for_keys_whatever_it_thinks_of_the_table(postgresql_database):
    """Orphans piled up since the table was last analysed, so that to read all of them seems to cost nothing."""
    placed = {"event_id": "e", "first": 1, "last": 20_000}
    postgresql_database.execute(ORPHANS_OF_OTHERS, **placed)
    postgresql_database.execute("ANALYZE")
    postgresql_database.execute(ORPHANS_OF_OTHERS, event_id="", first=30_001, last=50_000)
    with statements() as asked:
        deliver(postgresql_database, two_traces(), WriteBatch((run(9, trace_id="t", span_id="s"), run_of(9))))
    lines = postgresql_database.plans(asked)
    spans = [line for line in lines if " on run_spans" in line]
    assert len(spans) >= 3
    assert [line for line in spans if "Index Scan using" not in line] == []
    conditions = [line for line in lines if "Index Cond" in line and "span_id" in line]
    assert [line for line in conditions if "trace_id" not in line] == []


@pytest.mark.parametrize("copied", COPIED, ids=lambda copied: copied.table.name)
def test_a_copy_finds_rows_in_its_target_by_their_keys(sqlite_database, copied):
    """In every table, at many keys."""
    rows = [tuple(f"{number}" for _ in copied.columns) for number in range(30)]
    with statements() as asked, sqlite_database.reading() as connection:
        assert stored_in(connection, copied, rows) == {}
    lines = [line for line in sqlite_database.plans(asked) if copied.table.name in line]
    assert lines
    assert [line for line in lines if not line.startswith(f"SEARCH {copied.table.name}")] == []


def test_a_copy_finds_all_rows_that_are_there_and_no_other(database):
    """More than one statement should take by name; some with the trace of one and the span of another."""
    steps = [step(number, 1, count=2, trace=trace) for number in range(2, 400) for trace in (TRACE, OTHER)]
    deliver(database, merged_batch(steps[::3]))
    spare = Database(database.config.base_dir / "spare")
    deliver(spare, merged_batch(steps))
    for copied in COPIED:
        wanted = [row for batch in batches(spare.engine, copied) for row in batch]
        there = [row for batch in batches(database.engine, copied) for row in batch]
        with database.reading() as connection:
            found = stored_in(connection, copied, wanted, copied.identity[0])
        assert set(found) == set(map(copied.identity_of, there))
    spare.close()


def test_children_of_a_run_are_found_by_index(database):
    """Children by their own state, and children found by their spans."""
    if database.engine.dialect.name == "postgresql":
        database.execute(RUNS_OF_OTHERS)
        database.execute("ANALYZE")
    with database.writing() as connection:
        upsert_runs(connection, [run(2, parent_run_id="run-1"), run(3)])
    database.execute(
        "INSERT INTO run_rollups (event_id, parent_run_id, usage_json) VALUES (:one, 'run-1', '{}')", one=event_id(3)
    )
    with statements() as asked, database.reading() as connection:
        listed = [found.record.run_id for found in page_of_runs(connection, RunQuery(parent_run_id="run-1"))]
        assert [child.run_id for child in children_of(connection, "run-1")] == listed[::-1] == ["run-2", "run-3"]
    lines = [line for line in database.plans(asked) if "agent_runs" in line]
    assert lines
    assert [line for line in lines if "Seq Scan" in line or "created_at on" in line or line.startswith("SCAN")] == []


@pytest.mark.parametrize("analyse", ["SELECT 1", "ANALYZE"])
@pytest.mark.parametrize(
    ("query", "index"),
    [
        (RunQuery(status="failed"), "ix_agent_runs_not_succeeded"),
        (RunQuery(start_time_from=at(1_000_000)), "ix_agent_runs_start_time"),
        (RunQuery(start_time_to=at(-1)), "ix_agent_runs_start_time"),
        (RunQuery(start_time_from=at(1198)), "ix_agent_runs_start_time"),
    ],
)
def test_a_listing_with_few_matches_reads_no_other_runs(sqlite_database, query, index, analyse):
    """In a database of any size: by an index, then each run by its number."""
    many = [run(number, status="success", start_time=at(number)) for number in range(1200)]
    deliver(sqlite_database, WriteBatch(many))
    sqlite_database.execute(analyse)
    with statements() as asked, sqlite_database.reading() as connection:
        found = list_runs(connection, query)
    assert [one.run_id for one in found] == (["run-1199", "run-1198"] if query.start_time_from == at(1198) else [])
    lines = [line for line in sqlite_database.plans(asked) if "agent_runs" in line]
    assert index in lines[0]
    assert [line for line in lines if line.startswith("SCAN")] == []


def test_a_listing_with_many_matches_stops_when_its_page_is_full(sqlite_database):
    """It reads in its own order, and sorts nothing."""
    many = [run(number, status="success", start_time=at(number)) for number in range(1200)]
    deliver(sqlite_database, WriteBatch(many))
    with statements() as asked, sqlite_database.reading() as connection:
        assert len(list_runs(connection, RunQuery(start_time_from=at(3), limit=5))) == 5
    lines = sqlite_database.plans(asked)
    assert any("ix_agent_runs_created_at" in line for line in lines)
    assert [line for line in lines if "TEMP B-TREE" in line] == []
