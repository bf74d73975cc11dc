"""A deleted run leaves its receipt, and no state, step or copy brings it back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from storage_cases import Database, at, at_ns, event_id, quick_config, run
from trace_cases import deliver, names_of, step
from trace_cases import run as traced_run
from version_7_database import make_version_7, row_7

from otel_agent_telemetry.deletion import CutOff, Marks
from otel_agent_telemetry.storage.copy_db import copy_database
from otel_agent_telemetry.storage.counts import check_counts
from otel_agent_telemetry.storage.deletions import apply_marks, delete_run
from otel_agent_telemetry.storage.marks import put_marks, read_marks
from otel_agent_telemetry.storage.queries import list_runs
from otel_agent_telemetry.storage.row_retention import delete_old
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.silence import close_silent
from otel_agent_telemetry.storage.store import Store, WriteBatch, write_batch

TABLES = ("agent_runs", "run_spans", "run_events", "run_rollups", "run_keys")


def write(database, *records):
    with database.writing() as connection:
        return list(write_batch(connection, WriteBatch(records)).outcomes)


def delete(database, number, *, own_id=None):
    with database.writing() as connection:
        return delete_run(connection, own_id or event_id(number), deleted_at=at(10_000), deleted_by="ops")


def stored(database):
    return sorted(run_id for (run_id,) in database.rows("SELECT run_id FROM agent_runs"))


def rows_left(database):
    return {name: number for name in TABLES if (number := database.rows(f"SELECT count(*) FROM {name}")[0][0])}


def test_no_state_of_a_deleted_run_is_stored_again(database):
    """Whatever the state; its neighbours in the batch are. A repeated deletion returns the first receipt."""
    write(database, run(1), run(2))
    (receipt,) = delete(database, 1)
    assert (receipt.event_id, receipt.run_id, receipt.deleted_by) == (event_id(1), "run-1", "ops")
    assert write(database, run(1, status="success", updated=5), run(3), run(1)) == ["deleted", "inserted", "deleted"]
    assert stored(database) == ["run-2", "run-3"]
    assert delete(database, 1) == [receipt]
    assert delete(database, 9) == []
    with database.reading() as connection:
        assert check_counts(connection) == []


def test_runs_inside_are_deleted_with_the_run(database):
    """At any depth, also in a circle."""
    write(database, run(1), run(2, parent_run_id="run-1"), run(3, parent_run_id="run-2"), run(4))
    write(database, run(1, updated=1, parent_run_id="run-3"))
    assert [one.run_id for one in delete(database, 1)] == ["run-1", "run-2", "run-3"]
    assert stored(database) == ["run-4"]


def test_of_runs_with_one_run_id_only_those_of_the_trace_are_inside(database):
    """A job that names its run alike every day keeps what the other days' runs contain."""
    today, yesterday = "a" * 32, "b" * 32
    nightly = [run(number, run_id="nightly", trace_id=trace) for number, trace in ((1, today), (2, yesterday))]
    parts = [run(3, parent_run_id="nightly", trace_id=today), run(4, parent_run_id="nightly", trace_id=yesterday)]
    write(database, *nightly, *parts, run(5, parent_run_id="nightly"))
    assert [one.event_id for one in delete(database, 1)] == [event_id(1), event_id(3)]
    assert stored(database) == ["nightly", "run-4", "run-5"]


def test_spans_of_a_deleted_trace_are_not_stored(database):
    """Neither the run's own, sent again, nor a late step, which would wait for its run and become one of its own."""
    deliver(database, traced_run(1), step(2, 1), step(4, 3))
    (own_id,) = (row[0] for row in database.rows("SELECT event_id FROM agent_runs"))
    delete(database, 1, own_id=own_id)
    assert rows_left(database) == {}
    deliver(database, traced_run(1), step(2, 1), step(5, 1))
    assert rows_left(database) == {}


def test_the_own_span_of_a_deleted_run_goes_from_the_steps_of_the_run_above(database):
    """Its name and attributes are its content."""
    deliver(database, traced_run(1), traced_run(2, 1), step(3, 2), step(4, 1))
    inner = database.rows("SELECT event_id FROM agent_runs WHERE run_id = 'run-2'")[0][0]
    delete(database, 2, own_id=inner)
    assert names_of(database, 1) == ["span 4"]
    assert names_of(database, 2) == []


def test_late_steps_below_a_deleted_inner_run_make_no_failed_run(database):
    """Neither those below its own span nor those below one of its steps; steps of the run around it are stored."""
    deliver(database, traced_run(1), traced_run(2, 1), step(3, 2))
    inner = database.rows("SELECT event_id FROM agent_runs WHERE run_id = 'run-2'")[0][0]
    delete(database, 2, own_id=inner)
    deliver(database, step(5, 2, count=1), step(7, 3), step(6, 1))
    deliver(database, step(20_001, 20_000))  # of a root that began after the deletion and is missing
    with database.writing() as connection:
        assert close_silent(connection, now_ns=at_ns(30_000), silence_s=600, agent_of=lambda _: None) == 1
    made_up = (set(stored(database)) - {"run-1"}).pop()
    assert names_of(database, 1) == ["span 6"]
    assert database.rows("SELECT name, run_id FROM run_spans WHERE name IN ('span 5', 'span 7', 'span 20001')") == [
        ("span 20001", made_up)
    ]
    assert database.rows("SELECT count(*) FROM run_events") == [(0,)]


def test_a_retention_keeps_out_what_it_has_deleted(database):
    """Ends and starts of such runs; not a run that ended later, nor one that is stored."""
    ended = {"status": "success", "end_time": at(5)}
    write(database, run(1, **ended), run(2, updated=200), run(3))
    store = Store(database.config)
    assert delete_old(store, at(100)).runs == 1
    store.close()
    late = run(5, status="success", updated=200, end_time=at(205))
    assert write(database, run(1, **ended), run(4), run(3, updated=1), late) == [
        *("deleted", "deleted", "updated", "inserted")
    ]


@pytest.fixture
def other(tmp_path):
    made = Database(tmp_path / "other")
    yield made
    made.engine.dispose()


def test_a_copy_deletes_what_its_source_has_deleted(database, other):
    """Receipts are copied, and the runs are deleted in the target; the copy counts as complete."""
    write(database, run(1), run(2))
    write(other, run(1), run(3))
    delete(database, 1)
    report = copy_database(database.config, other.config)
    assert report.verified
    assert report.deleted == 1
    assert stored(other) == ["run-2", "run-3"]
    assert write(other, run(1)) == ["deleted"]


def test_a_copy_does_not_bring_back_what_the_target_has_deleted(database, other):
    """Neither a run that was deleted there nor one that its retention deleted, nor their steps."""
    deliver(database, traced_run(1), step(2, 1), traced_run(30), step(31, 30))
    ids = dict(database.rows("SELECT run_id, event_id FROM agent_runs"))
    deliver(other, traced_run(1))
    delete(other, 1, own_id=ids["run-1"])
    with other.writing() as connection:
        put_marks(connection, [CutOff(cutoff=at(10_000), applied_at=at(10_000))])
    assert copy_database(database.config, other.config).verified
    assert rows_left(other) == {}


def test_a_copy_leaves_an_archive_as_it_is(database, other):
    """A target with runs older than the source's cut-off does not take that cut-off."""
    write(other, run(1, status="success", end_time=at(2)))
    with database.writing() as connection:
        put_marks(connection, [CutOff(cutoff=at(100), applied_at=at(200))])
    copy_database(database.config, other.config)
    with other.reading() as connection:
        assert read_marks(connection).cutoff is None
    assert stored(other) == ["run-1"]


def test_marks_made_elsewhere_delete_what_is_there(database):
    """As after the restore of a backup that is older than the deletion."""
    write(database, run(1), run(2))
    receipts = delete(database, 1)
    with database.writing() as connection:
        database_marks = Marks({one.event_id: one for one in receipts})
        assert apply_marks(connection, database_marks) == 0
        assert read_marks(connection) == database_marks


def test_a_run_of_version_7_can_be_deleted_after_the_upgrade(tmp_path):
    """Its late state is refused as any other's; the rest of the database stays."""
    config = quick_config(tmp_path)
    make_version_7(config.db_path, [row_7(1), row_7(2)])
    store = Store(config)
    assert store.open().outcome == "upgraded"
    own_id = row_7(1)["event_id"]
    (receipt,) = store.transact(partial(delete_run, event_id=own_id, deleted_at=at(0), deleted_by="ops"))
    assert receipt.run_id == row_7(1)["run_id"]
    late = run(9, run_id=receipt.run_id, status="success", updated=5)
    assert store.write([replace(late, event_id=own_id)]).outcomes == ("deleted",)
    with store.reading() as connection:
        assert [one.run_id for one in list_runs(connection, RunQuery(limit=9))] == [row_7(2)["run_id"]]
        assert check_counts(connection) == []
    store.close()
