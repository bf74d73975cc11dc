"""Any order, any repetition, any partition into batches ends in the same rows."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from storage_cases import Database, at, event_id, expected_rows, link, run

from otel_agent_telemetry.columns import COLUMNS, OBSERVED_BY_STORE
from otel_agent_telemetry.errors import StorageError, StoreUnavailableError
from otel_agent_telemetry.model import ORDER_COLUMNS, order_key
from otel_agent_telemetry.storage.queries import get_run
from otel_agent_telemetry.storage.rows import merged, record_of, row_key, row_of
from otel_agent_telemetry.storage.runs import link_commits, upsert_runs, write_rows
from otel_agent_telemetry.storage.tables import agent_runs

TEXTS = some.one_of(some.none(), some.sampled_from(["", "a", "b", "é", "é\U0001f600", "\uffff", "Z", "z", "a\x00b"]))
COUNTS = some.sampled_from([0, 1, 2, 10, 2**63 - 1])


@some.composite
def states(draw):
    number = draw(some.integers(1, 3))
    return run(
        number,
        status=draw(some.sampled_from(["running", "success", "failed"])),
        updated=draw(some.sampled_from([0, 1, 2])),
        output_summary=draw(TEXTS),
        context_json=draw(TEXTS),
        items_failed=draw(COUNTS),
        git_commit_hash=draw(some.sampled_from([None, "1111111", "2222222"])),
        git_branch=draw(TEXTS),
        api_posted=draw(some.integers(0, 1)),
        api_posted_at=draw(some.sampled_from([None, at(50), at(60)])),
        api_retry_count=draw(some.integers(0, 3)),
    )


@some.composite
def links(draw):
    return link(
        draw(some.integers(1, 3)),
        draw(some.sampled_from(["aaaaaaa", "bbbbbbb"])),
        associated=draw(some.integers(0, 2)),
        commit_author=draw(some.sampled_from([None, "", "x", "y"])),
    )


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def fresh(request, tmp_path_factory):
    """Empties a database of the current schema, one for all examples, and gives it."""
    name, server, url = None, None, None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres_server")
        name = server.make_database(request.getfixturevalue("postgres_template"))
        url = server.url(name)
    database = Database(tmp_path_factory.mktemp("fresh"), database_url=url)

    def emptied():
        database.empty()
        return database

    yield emptied
    database.close()
    if server is not None:
        server.drop_database(name)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=some.data(), observed=some.lists(some.one_of(states(), links()), max_size=12))
def test_any_order_repetition_and_partition_ends_in_the_greatest_states(fresh, data, observed):
    """Rows are those of plain Python, however the states and links were shuffled, repeated and batched."""
    repeated = data.draw(some.lists(some.sampled_from(observed), max_size=6)) if observed else []
    arriving = data.draw(some.permutations(observed + repeated))
    database = fresh()
    while arriving:
        size = data.draw(some.integers(1, len(arriving)))
        batch, arriving = arriving[:size], arriving[size:]
        with database.writing() as connection:
            for kind, write in data.draw(some.permutations([("RunRecord", upsert_runs), ("CommitLink", link_commits)])):
                write(connection, [one for one in batch if type(one).__name__ == kind])
    records = [one for one in observed if type(one).__name__ == "RunRecord"]
    links = [one for one in observed if type(one).__name__ == "CommitLink"]
    assert database.runs() == expected_rows(records, links)
    kind = "agent_name, job_type, status"
    counted = database.rows(f"SELECT {kind}, sum(runs) FROM run_counts GROUP BY {kind} HAVING sum(runs) <> 0")
    assert set(counted) == set(database.rows(f"SELECT {kind}, count(*) FROM agent_runs GROUP BY {kind}"))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=states(), other=states())
def test_the_statement_itself_keeps_the_greater_state(fresh, one, other):
    """Written past the comparison in Python, as by a concurrent writer, SQL decides the same."""
    one, other = row_of(one), row_of(replace(other, event_id=one.event_id, run_id=one.run_id))
    database = fresh()
    for row in (one, other):
        with database.writing() as connection:
            write_rows(connection, agent_runs, [row])
    assert database.runs() == {one[0]: asdict(record_of(merged(one, other)))}


@given(one=states(), other=states())
def test_rows_are_ordered_as_records(one, other):
    """`row_key` is `order_key` of the record that the row keeps."""
    for record in (one, other):
        assert row_key(row_of(record)) == order_key(record_of(row_of(record)))


def test_every_column_takes_part_in_deciding():
    """Two states that differ in any column are never equal, but for what stands outside the order."""
    outside = {"event_id", "api_posted", "api_posted_at", "api_retry_count", *OBSERVED_BY_STORE}
    assert set(COLUMNS) - set(ORDER_COLUMNS) == outside


def test_outcomes_are_in_the_order_of_the_records(database):
    """Inserted, updated and duplicate, within one batch and across batches."""
    start, end = run(), run(status="success", updated=1)
    with database.writing() as connection:
        assert upsert_runs(connection, [start, run(2), start, end, start]) == [
            "inserted",
            "inserted",
            "duplicate",
            "updated",
            "duplicate",
        ]
        assert upsert_runs(connection, [end, start, run(3)]) == ["duplicate", "duplicate", "inserted"]


def test_a_running_state_never_undoes_an_end(database):
    """Whatever its time."""
    with database.writing() as connection:
        upsert_runs(connection, [run(status="failed")])
        assert upsert_runs(connection, [run(updated=99)]) == ["duplicate"]
    assert database.runs()[event_id(1)]["status"] == "failed"


def test_posting_of_a_lesser_state_is_kept(database):
    """What was posted is added to the state that stands, and counts as an update."""
    with database.writing() as connection:
        upsert_runs(connection, [run(status="success", updated=5)])
        lesser = run(api_posted=1, api_posted_at=at(7), api_retry_count=2)
        assert upsert_runs(connection, [lesser, lesser]) == ["updated", "duplicate"]
    row = database.runs()[event_id(1)]
    assert (row["status"], row["api_posted"], row["api_posted_at"], row["api_retry_count"]) == (
        "success",
        1,
        at(7),
        2,
    )


def test_a_late_state_does_not_erase_a_commit(database):
    """And a state sent again, with or without a commit of its own, is a duplicate then."""
    own = run(status="success", updated=1, git_commit_hash="fffffff")
    with database.writing() as connection:
        upsert_runs(connection, [run()])
        assert link_commits(connection, [link(commit="1234567", commit_author="me")]) == [True]
        assert upsert_runs(connection, [own]) == ["updated"]
        assert upsert_runs(connection, [own]) == ["duplicate"]
        kept = get_run(connection, run_id="run-1")
    assert (kept.git_commit_hash, kept.git_commit_source, kept.git_commit_author) == ("1234567", "llm", "me")


def test_a_commit_associated_before_its_run_waits_for_it(database):
    """`link_commits` reports that no run is stored; the run shows the commit when it arrives."""
    with database.writing() as connection:
        assert link_commits(connection, [link(associated=1), link(2, associated=1)]) == [False, False]
        upsert_runs(connection, [run(1), run(1, event_id=event_id(77))])
        assert link_commits(connection, [link(1, associated=1), link(2, associated=1)]) == [True, False]
    assert [row["git_commit_hash"] for row in database.runs().values()] == ["abcdef1", "abcdef1"]


def test_texts_that_no_database_holds_are_replaced(database):
    """NUL and lone surrogates become U+FFFD, neighbours and other alphabets stay."""
    with database.writing() as connection:
        upsert_runs(connection, [run(output_summary="a\x00b\ud800c", input_summary="żółw \U0001f422", item_name="")])
    row = database.runs()[event_id(1)]
    assert (row["output_summary"], row["input_summary"], row["item_name"]) == (
        "a\ufffdb\ufffdc",
        "żółw \U0001f422",
        None,
    )


def test_a_refused_value_is_a_storage_error_and_leaves_nothing(database):
    """A number beyond 64 bits cannot be kept; the batch is rolled back and not to be retried."""
    with pytest.raises(StorageError) as caught, database.writing() as connection:
        upsert_runs(connection, [run(1), run(2, items_failed=2**70)])
    assert not isinstance(caught.value, StoreUnavailableError)
    assert database.runs() == {}


def test_a_large_batch_passes_the_parameter_limit(database):
    """More runs in one batch than an SQL statement takes parameters."""
    records = [run(number) for number in range(1, 1202)]
    with database.writing() as connection:
        assert set(upsert_runs(connection, records)) == {"inserted"}
        assert set(upsert_runs(connection, records)) == {"duplicate"}


def test_deleted_runs_are_not_counted(database):
    """Whoever deletes rows, the counts follow."""
    with database.writing() as connection:
        upsert_runs(connection, [run(1), run(2), run(3, status="success")])
    database.execute("DELETE FROM agent_runs WHERE event_id = :wanted", wanted=event_id(1))
    counts = database.rows("SELECT status, sum(runs) FROM run_counts GROUP BY status ORDER BY status")
    assert counts == [("running", 1), ("success", 1)]
    assert database.rows("SELECT sum(runs) FROM run_hours") == [(2,)]
