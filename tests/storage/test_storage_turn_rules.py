"""Turns of coding agents by their rules: what ends them, what corrects them, and that no order matters."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from storage_cases import Database, at, at_ns
from trace_cases import deliver
from turn_cases import SILENCE_S, after, call, everything, logged, prompt, record

from otel_agent_telemetry.deletion import CutOff
from otel_agent_telemetry.storage.copy_db import copy_database
from otel_agent_telemetry.storage.deletions import delete_run, put_cutoff
from otel_agent_telemetry.storage.queries import list_runs
from otel_agent_telemetry.storage.row_retention import delete_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.store import write_batch
from otel_agent_telemetry.storage.turn_rows import delete_old_turns
from otel_agent_telemetry.storage.turns import close_silent_turns

TABLES = ("turns", "turn_records", "run_events", "agent_runs")


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    opened = Database(tmp_path_factory.mktemp("turns"))
    yield opened
    opened.close()


def outcomes(connection):
    """Status, error, start and end in seconds, and model calls of each run, in the order of the runs' starts."""
    runs = sorted(list_runs(connection, RunQuery()), key=lambda run: (run.start_time, run.event_id))
    return [(run.status, run.error_summary, run.start_time, run.end_time, run.model_calls) for run in runs]


RULES = {
    "the next prompt ends a turn, at its last sign of life": (
        20,
        [prompt(1, 0), call(2, 5), prompt(3, 10), call(4, 15)],
        [("success", None, at(0), at(5), 1), ("running", None, at(10), None, 1)],
    ),
    "silence ends a turn": (
        5 + SILENCE_S,
        [prompt(1, 0), call(2, 5)],
        [("success", None, at(0), at(5), 1)],
    ),
    "before it the turn is open": (
        4 + SILENCE_S,
        [prompt(1, 0), call(2, 5)],
        [("running", None, at(0), None, 1)],
    ),
    "a prompt and nothing else": (
        SILENCE_S,
        [prompt(1, 0)],
        [("failed", "no further telemetry", at(0), at(0), 0)],
    ),
    "signs of life without an answer are nothing else": (
        9 + SILENCE_S,
        [prompt(1, 0), record(2, "sign", 9)],
        [("failed", "no further telemetry", at(0), at(9), 0)],
    ),
    "an event of an unknown name is telemetry": (
        9 + SILENCE_S,
        [prompt(1, 0), record(2, "other", 9)],
        [("success", None, at(0), at(9), 0)],
    ),
    "the agent says that the turn is over": (
        10,
        [prompt(1, 0), call(2, 5), record(3, "ends", 6)],
        [("success", None, at(0), at(6), 1)],
    ),
    "and goes on after that": (
        10,
        [prompt(1, 0), record(2, "ends", 6), call(3, 7)],
        [("running", None, at(0), None, 1)],
    ),
    "the last model call decides": (
        9_000,
        [
            prompt(1, 0),
            call(2, 5, failure="429"),
            call(3, 7),
            prompt(4, 10),
            call(5, 12),
            call(6, 13, failure="500 no"),
        ],
        [("success", None, at(0), at(7), 2), ("failed", "500 no", at(10), at(13), 2)],
    ),
    "records before the first prompt are of no turn": (
        9_000,
        [call(1, 0), prompt(2, 5)],
        [("failed", "no further telemetry", at(5), at(5), 0)],
    ),
    "prompts of one time are two turns": (
        9_000,
        [prompt(1, 5), prompt(2, 5)],
        [("failed", "no further telemetry", at(5), at(5), 0)] * 2,
    ),
    "a prompt id takes a record from the prompts around it": (
        9_000,
        [prompt(1, 0, prompt="a"), prompt(2, 10, prompt="b"), call(3, 15, prompt="a"), call(4, 16, prompt="unknown")],
        [("success", None, at(0), at(15), 1), ("success", None, at(10), at(16), 1)],
    ),
    "a record with the id of a prompt is of it also where clocks put it before": (
        9_000,
        [call(1, 3, prompt="a"), prompt(2, 5, prompt="a")],
        [("success", None, at(5), at(5), 1)],
    ),
    "of a resumed session with one prompt id each prompt is a turn": (
        9_000,
        [prompt(1, 0, prompt="a"), call(2, 1, prompt="a"), prompt(3, 5, prompt="a"), call(4, 6, prompt="a")],
        [("success", None, at(0), at(1), 1), ("success", None, at(5), at(6), 1)],
    ),
    "ids that are turns need no prompt": (
        9_000,
        [call(1, 3, prompt="a", names_turn=True), call(2, 4, prompt="b", names_turn=True)],
        [("success", None, at(3), at(3), 1), ("success", None, at(4), at(4), 1)],
    ),
    "two sessions do not mix, nor two hosts": (
        9_000,
        [prompt(1, 0), prompt(2, 1, session="t"), call(3, 2), call(4, 3, session="t"), call(5, 4, session="t")],
        [("success", None, at(0), at(2), 1), ("success", None, at(1), at(4), 2)],
    ),
    "a session that goes on after days": (
        900_000,
        [prompt(1, 0), call(2, 5), call(3, 400_000)],
        [("success", None, at(0), at(400_000), 2)],
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_what_a_turn_is(database, rule):
    """The records at once, and one by one from the last to the first, each twice."""
    now_s, records, expected = RULES[rule]
    assert after(database, [logged(*records)], outcomes, now_s=now_s) == expected
    backwards = [logged(one) for one in records[::-1] for _ in "12"]
    assert after(database, backwards, outcomes, now_s=now_s) == expected


def closed_at(now_s):
    """What a service does that looks at this time."""

    def close(connection):
        close_silent_turns(connection, now_ns=at_ns(now_s))
        return outcomes(connection)

    return close


def test_a_turn_that_nobody_ends_is_ended_by_the_service(database):
    """Not before the silence; the service's answer is that of the records."""
    batches = [logged(prompt(1, 0), call(2, 5))]
    assert after(database, batches, closed_at(600), now_s=6) == [("running", None, at(0), None, 1)]
    assert after(database, batches, closed_at(605), now_s=6) == [("success", None, at(0), at(5), 1)]


def then(connection, batch, *, now_s):
    write_batch(connection, batch, received_at=at(now_s))
    return outcomes(connection)


def test_a_late_record_corrects_what_silence_has_ended(database):
    """Its status, its end and its figures, whatever the order of states says of ended runs; it may even go on."""

    def story(connection):
        silent = closed_at(700)(connection)
        return (
            silent,
            then(connection, logged(call(2, 690)), now_s=700),
            then(connection, logged(prompt(3, 699)), now_s=700),
        )

    silent, going, ended = after(database, [logged(prompt(1, 0))], story, now_s=1)
    assert silent == [("failed", "no further telemetry", at(0), at(0), 0)]
    assert going == [("running", None, at(0), None, 1)]
    assert ended[0] == ("success", None, at(0), at(690), 1)


def test_what_an_operator_has_changed_stays(database):
    """A column that differs from what the records made is somebody else's."""

    def changed(connection):
        connection.execute(text("UPDATE agent_runs SET output_summary = 'done', status = 'cancelled'"))
        then(connection, logged(call(3, 9)), now_s=9_000)
        (run,) = list_runs(connection, RunQuery())
        return run.status, run.output_summary, run.end_time, run.model_calls

    batches = [logged(prompt(1, 0), call(2, 5))]
    assert after(database, batches, changed) == ("cancelled", "done", at(9), 2)


def test_what_a_service_noted_stays_with_a_corrected_run(database):
    """When it was first received, and that the webhook has it."""

    def corrected(connection):
        connection.execute(text("UPDATE agent_runs SET api_posted = 1"))
        then(connection, logged(call(2, 9)), now_s=9_500)
        return connection.execute(text("SELECT status, received_at, api_posted FROM agent_runs")).one()

    assert after(database, [logged(prompt(1, 0))], corrected, now_s=9_000) == ("success", at(9_000), 1)


def test_late_records_of_a_deleted_turn_are_not_kept(database):
    """Neither with the id of its prompt nor by their place behind it; those of the next turn are."""

    def deleted(connection):
        first = list_runs(connection, RunQuery())[-1]
        delete_run(connection, first.event_id, deleted_at=at(9_000), deleted_by="test")
        found = then(connection, logged(call(4, 6), call(5, 12), prompt(1, 0)), now_s=9_000)
        kept = connection.execute(text("SELECT turn_id <> '', count(*) FROM turn_records GROUP BY 1")).all()
        return found, [tuple(row) for row in kept], connection.execute(text("SELECT count(*) FROM run_events")).scalar()

    batches = [logged(prompt(1, 0), call(2, 5), prompt(3, 10))]
    assert after(database, batches, deleted) == ([("success", None, at(10), at(12), 1)], [(1, 2)], 2)


def test_records_of_turns_that_retention_has_deleted_do_not_come_back(database):
    """Nor do their places stay once they are older than the cut-off."""

    def swept(connection):
        put_cutoff(connection, CutOff(cutoff=at(1_000), applied_at=at(9_000)))
        ids = connection.execute(text("SELECT id FROM agent_runs")).scalars().all()
        delete_runs(connection, ids=ids, cutoff=at(1_000))
        found = then(connection, logged(call(3, 6), prompt(1, 0)), now_s=9_000)
        delete_old_turns(connection, at_ns(9_000))
        return found, [connection.execute(text(f"SELECT count(*) FROM {name}")).scalar() for name in TABLES]

    batches = [logged(prompt(1, 0), call(2, 5))]
    assert after(database, batches, swept) == ([], [0, 0, 0, 0])


KINDS = st.sampled_from(["begins", "model_call", "model_error", "tool_call", "sign", "nothing", "ends", "other"])
RECORDS = st.lists(
    st.tuples(KINDS, st.integers(0, 12), st.sampled_from(["", "a", "b"]), st.sampled_from(["s", "t"])),
    min_size=1,
    max_size=8,
)


def record_of(number, drawn, names_turn):
    role, at_s, given_prompt, session = drawn
    more = {"session": session, "prompt": given_prompt, "names_turn": names_turn}
    if role in ("model_call", "model_error"):
        return call(number, at_s, failure=None if role == "model_call" else "no", **more)
    return record(number, role, at_s, **more)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=RECORDS, names_turn=st.booleans(), data=st.data())
def test_order_repetition_and_partition_do_not_matter(database, drawn, names_turn, data):
    """Every column of every run, every event and every sum are those of the records at once."""
    records = [record_of(number, one, names_turn) for number, one in enumerate(drawn, start=1)]
    shuffled = data.draw(st.permutations(records + records[: len(records) // 2]))
    cut = data.draw(st.integers(1, len(shuffled)))
    parts = [logged(*shuffled[:cut]), *(logged(one) for one in shuffled[cut:])]
    at_once = after(database, [logged(*records)], everything)
    assert after(database, parts, everything) == at_once


def work_for_one_more(connection):
    """How much SQLite does for one record more, in hundreds of its instructions."""
    done = []
    driver = connection.connection.driver_connection
    driver.set_progress_handler(lambda: done.append(1), 100)
    try:
        then(connection, logged(call(5_000, 500)), now_s=501)
    finally:
        driver.set_progress_handler(None, 0)
    return len(done)


def test_a_record_costs_the_same_in_a_long_turn(database):
    """What is read for one does not grow with the records that are there."""
    few, many = ([prompt(1, 0), *(call(n, n / 10) for n in range(2, count))] for count in (20, 1_000))
    work = after(database, [logged(*many)], work_for_one_more)
    assert work <= 2 * after(database, [logged(*few)], work_for_one_more)


def test_both_databases_make_the_same_rows_and_a_copy_has_them(sqlite_database, postgresql_database):
    """One by one into each; then PostgreSQL's rest into SQLite, whose turns are summed again."""
    records = RULES["the last model call decides"][1]
    for one in records[:4]:
        deliver(sqlite_database, logged(one))
    for one in records[::-1]:
        deliver(postgresql_database, logged(one))
    with postgresql_database.reading() as connection:
        expected = outcomes(connection)
    copy_database(postgresql_database.config, sqlite_database.config)
    with sqlite_database.reading() as connection:
        assert outcomes(connection) == expected
    deliver(sqlite_database, logged(*records))
    with sqlite_database.reading() as connection:
        assert outcomes(connection) == expected
