"""Kept figures are those of the runs, whoever writes, changes or deletes runs in whichever order."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from storage_cases import SECOND, T0, at, event_id, run

from otel_agent_telemetry.storage.figure_check import check_figures, repair_figures, stored_figures
from otel_agent_telemetry.storage.figure_refresh import hours_since, next_refresh, waiting_hours
from otel_agent_telemetry.storage.figures import DAY, figures_of
from otel_agent_telemetry.storage.runs import upsert_runs

TODAY = datetime.fromtimestamp(T0 / SECOND, UTC).date()
HOUR_S = 3600


def refresh(database, today=TODAY, *, at_most=1000):
    """Refresh as a service does, with a view of its own and a transaction for each day."""
    for _ in range(at_most):
        with database.reading() as connection:
            found = next_refresh(connection, today)
            if found is None:
                return
            if connection.dialect.name == "sqlite":
                connection.rollback()
            with database.writing() as writing:
                found.write(writing)


def write(database, *records):
    with database.writing() as connection:
        upsert_runs(connection, records)


def used(tokens, model="gpt-4o", calls=1):
    by_model = {model: {"model_calls": calls, "input_tokens": tokens}}
    return json.dumps({"gen_ai": {"by_model": by_model, "model_calls": calls, "input_tokens": tokens}})


def a_state(chance):
    """A state of one of twenty runs in seven days, some inside of others, some in a circle."""
    number = chance.randrange(1, 20)
    status, updated = chance.choice([("running", 0), ("success", 2), ("failed", 3)])
    parent = chance.choice([None, None, f"run-{chance.randrange(1, 20)}"])
    metrics = chance.choice([None, used(10 * number), used(7, calls=0), used(3, "other")])
    return run(
        number,
        status=status,
        updated=updated,
        created_at=at((number % 7 - 5) * 24 * HOUR_S + number * HOUR_S / 2),
        agent_name=f"agent-{number % 4}",
        host=f"host-{number % 2}",
        session_id=chance.choice([None, "session"]),
        parent_run_id=parent,
        metrics_json=metrics,
        duration_ms=0 if status == "running" else chance.randrange(100_000),
        plumbing=int(number == 5),
    )


def assert_figures_are_those_of_the_runs(database):
    """Every day and each kept hour, no more and no less."""
    with database.reading() as connection:
        assert check_figures(connection) == []
        assert waiting_hours(connection) == 0
        days = {row[0] for row in database.rows("SELECT DISTINCT substr(created_at, 1, 10) FROM agent_runs")}
        for day in days:
            assert stored_figures(connection, day) == figures_of(connection, day)
            if day >= hours_since(connection):
                hours = {row[0] for row in database.rows("SELECT DISTINCT substr(created_at, 1, 13) FROM agent_runs")}
                for hour in (hour for hour in hours if hour[:DAY] == day):
                    assert stored_figures(connection, hour) == figures_of(connection, hour)
        kept = {row[0] for row in database.rows("SELECT DISTINCT period FROM agent_periods WHERE length(period) = 10")}
    assert kept <= days


@pytest.mark.parametrize("seed", range(3))
def test_any_sequence_of_states_and_deletions_ends_in_the_figures_of_the_runs(database, seed):
    """Whatever arrives before its parent, again, or after a refresh; settled periods are right at any moment."""
    chance = random.Random(seed)
    today = TODAY
    for _ in range(8):
        write(database, *(a_state(chance) for _ in range(chance.randrange(1, 12))))
        if chance.random() < 0.4:
            database.execute("DELETE FROM agent_runs WHERE event_id = :id", id=event_id(chance.randrange(1, 20)))
        refresh(database, today, at_most=chance.randrange(3))
        with database.reading() as connection:
            assert check_figures(connection) == []
        today += timedelta(days=chance.choice([0, 0, 1, -1]))
    refresh(database, today)
    assert_figures_are_those_of_the_runs(database)


def test_hours_are_kept_for_some_days_and_days_for_ever(database):
    """A late run of a day whose hours are gone changes that day alone."""
    for number, day in enumerate((-10, -1, 0), start=1):
        write(database, run(number, created_at=at(day * 24 * HOUR_S), status="success", updated=1))
    refresh(database)
    assert database.rows("SELECT count(*) FROM agent_periods") == [(5,)]
    refresh(database, TODAY + timedelta(days=30))
    assert database.rows("SELECT count(*) FROM agent_periods") == [(5,)]
    write(database, run(4, created_at=at(60), status="failed", updated=1))
    refresh(database, TODAY + timedelta(days=30))
    assert database.rows("SELECT success, failed, length(period) FROM agent_periods ORDER BY period") == [
        (1, 0, 10),
        (1, 0, 10),
        (1, 1, 10),
    ]


def test_the_usage_of_a_run_inside_counts_under_the_outermost_agent(database):
    """Own and tree have one total; what a run without calls reports of those inside it counts once."""
    outer = run(1, agent_name="outer", metrics_json=used(30, calls=0))
    middle = run(2, agent_name="middle", parent_run_id="run-1", metrics_json=used(10))
    inner = run(3, agent_name="inner", parent_run_id="run-2", metrics_json=used(20))
    write(database, inner)
    refresh(database)
    write(database, outer, middle)
    refresh(database)
    tokens = "SELECT dimension, name, sum(input_tokens) FROM usage_periods WHERE length(period) = 10 GROUP BY 1, 2"
    assert sorted(database.rows(tokens)) == [("agent", "inner", 20), ("agent", "middle", 10), ("tree", "outer", 30)]


def test_the_check_finds_what_a_trigger_cannot_see_and_the_repair_corrects_it(database):
    """A row of figures that was changed by hand, or lost."""
    write(database, run(1, status="success", updated=1, metrics_json=used(10)))
    refresh(database)
    database.execute("UPDATE agent_periods SET success = 7")
    database.execute("DELETE FROM usage_periods WHERE dimension = 'agent'")
    with database.reading() as connection:
        found = {(one.table, one.key[-1], one.kept, one.actual) for one in check_figures(connection)}
    assert {("agent_periods", "success", 7, 1), ("usage_periods", "input_tokens", 0, 10)} <= found
    with database.writing() as connection:
        assert repair_figures(connection)
    assert_figures_are_those_of_the_runs(database)
