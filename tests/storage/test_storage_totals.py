"""The totals in a run's row: the same on every route, in any order, and after an upgrade."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text
from storage_cases import ROOT, at, event_id, quick_config
from storage_cases import run as state
from trace_cases import deliver, ident, run, run_of, step

from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.storage.engine import make_engine, reading, writing
from otel_agent_telemetry.storage.queries import list_runs, own_state
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.schema import ensure_schema
from otel_agent_telemetry.storage.store import WriteBatch, write_batch

CALLED = json.dumps({"gen_ai": {"input_tokens": 5, "model_calls": 1, "models": ["m"]}})
TOTALS = "model, input_tokens, model_calls, tool_calls, cost_usd"


def totals(database, event):
    return database.rows(f"SELECT {TOTALS} FROM agent_runs WHERE event_id = :event", event=event)[0]


def test_a_state_that_holds_figures_has_them_in_its_row(database):
    """And a later state those of the later one."""
    with database.writing() as connection:
        upsert_runs(connection, [state(1, metrics_json=CALLED)])
    assert totals(database, event_id(1)) == ("m", 5, 1, 0, None)
    with database.writing() as connection:
        upsert_runs(connection, [state(1, status="success", updated=1)])
    assert totals(database, event_id(1)) == (None, 0, 0, 0, None)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 2, 3, 0], [1, 0, 3, 2, 1, 0]])
def test_steps_over_otlp_add_up_in_the_row_in_any_order(database, order):
    """Plain SQL reads what the listing reads."""
    batches = [run(1), step(2, 1, tokens=5), step(4, 2), step(3, 1, tokens=7)]
    deliver(database, *(batches[number] for number in order))
    assert totals(database, ident(1))[1] == 12
    with database.reading() as connection:
        (read,) = list_runs(connection, RunQuery(priced=False))
    assert read.input_tokens == 12
    assert database.rows("SELECT metrics_json, input_tokens FROM run_totals") == [(read.metrics_json, 12)]


def test_a_later_state_keeps_what_the_steps_used(database):
    """Its own figures go before those of the steps, which are added again."""
    deliver(database, run(1), step(2, 1, tokens=5))
    deliver(database, WriteBatch((run_of(1, updated_at=at(9), item_name="later"),)))
    assert totals(database, ident(1))[1] == 5
    own = json.dumps({"gen_ai": {"input_tokens": 50, "tool_calls": 2}})
    deliver(database, WriteBatch((run_of(1, updated_at=at(10), metrics_json=own),)))
    assert totals(database, ident(1))[1:4] == (50, 0, 2)


def test_the_sums_are_no_part_of_the_state(database):
    """So the same state again is a duplicate, and what is written back does not count the steps twice."""
    deliver(database, run(1), step(2, 1, tokens=5))
    with database.writing() as connection:
        assert write_batch(connection, WriteBatch((run_of(1),))).outcomes == ("duplicate",)
        own = own_state(connection, ident(1))
        assert (own.input_tokens, own.metrics_json) == (0, None)
        write_batch(connection, WriteBatch((replace(own, updated_at=at(9)),)))
    assert totals(database, ident(1))[1] == 5


def test_when_a_run_was_received_is_when_its_first_state_was(database):
    """Later states and repetitions do not move it; without a service there is none."""
    first, later = state(1), state(1, status="success", updated=1)
    with database.writing() as connection:
        write_batch(connection, WriteBatch((first,)), received_at=at(100))
        write_batch(connection, WriteBatch((later, first)), received_at=at(200))
        write_batch(connection, WriteBatch((state(2),)))
    received = dict(database.rows("SELECT event_id, received_at FROM agent_runs"))
    assert received == {event_id(1): at(100), event_id(2): None}


def test_runs_are_found_by_the_later_columns(database):
    """Each by its value, labels by one of them, plumbing by whether it is."""
    one = state(1, session_id="s", labels='{"team.a":"core","n":"1"}', model="unused", change_id="7", plumbing=1)
    other = state(2, user_id="u", host="build-7", environment="prod", metrics_json=CALLED, received_at=at(5))
    with database.writing() as connection:
        upsert_runs(connection, [one, other, state(3, labels="{}")])
    asked = {
        1: [{"session_id": "s"}, {"label": ("team.a", "core")}, {"change_id": "7"}, {"plumbing": True}],
        2: [{"user_id": "u"}, {"model": "m"}, {"environment": "prod"}, {"host": "build-7"}, {"received_after": at(4)}],
    }
    with database.reading() as connection:
        for number, queries in asked.items():
            for query in queries:
                assert [found.run_id for found in list_runs(connection, RunQuery(**query))] == [f"run-{number}"], query
        assert len(list_runs(connection, RunQuery(plumbing=False))) == 2
        assert list_runs(connection, RunQuery(label=("team.a", "other"))) == []


@pytest.fixture(params=["sqlite", "postgresql"])
def older(request, tmp_path):
    """An empty database of revision 0011."""
    if request.param == "sqlite":
        config = quick_config(tmp_path)
    else:
        config = quick_config(tmp_path, database_url=request.getfixturevalue("postgres").make_url())
    engine = make_engine(config)
    settings = Config()
    settings.set_main_option("script_location", str(ROOT / "otel_agent_telemetry" / "storage" / "migrations"))
    settings.set_main_option("path_separator", "os")
    with writing(engine, "making an older schema in") as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "0011")
    yield config, engine
    engine.dispose()


def test_an_upgrade_fills_the_totals(older):
    """From the state, from the steps over OTLP, from both; what is none stays empty."""
    config, engine = older
    runs = {
        1: (CALLED, '{"start_commit":"abc"}', None),
        2: (None, None, '{"own":{"input_tokens":99},"steps":{"input_tokens":12,"steps":2,"child_errors":1}}'),
        3: ('{"gen_ai":{"tool_calls":4},"files":1}', "no JSON", '{"own":{"input_tokens":3},"steps":{"steps":1}}'),
        4: ('{"gen_ai":[1]}', '{"start_commit":5}', '{"own":{},"steps":{"steps":1}}'),
    }
    names = "event_id, run_id, created_at, updated_at, start_time, agent_name, job_type, status, trace_id"
    with writing(engine, "filling") as connection:
        for number, (metrics, context, usage) in runs.items():
            values = {"event_id": event_id(number), "run_id": f"run-{number}", "metrics": metrics, "context": context}
            times = dict.fromkeys(("created_at", "updated_at", "start_time"), at(number))
            connection.execute(
                text(
                    f"INSERT INTO agent_runs ({names}, metrics_json, context_json) VALUES (:event_id, :run_id,"
                    " :created_at, :updated_at, :start_time, 'agent', 'job', 'success', :event_id, :metrics, :context)"
                ),
                {**values, **times},
            )
            if usage is not None:
                connection.execute(
                    text("INSERT INTO run_rollups (event_id, usage_json) VALUES (:event_id, :usage)"),
                    {"event_id": event_id(number), "usage": usage},
                )
    assert ensure_schema(engine, config).outcome == "upgraded"
    with reading(engine, "reading") as connection:
        rows = connection.execute(text(f"SELECT start_commit, {TOTALS} FROM agent_runs ORDER BY event_id")).all()
        seen = [record.metrics_json for record in list_runs(connection, RunQuery(priced=False))][::-1]
        viewed = connection.execute(text("SELECT metrics_json FROM run_totals ORDER BY event_id")).scalars().all()
    assert [tuple(row) for row in rows] == [
        ("abc", "m", 5, 1, 0, None),
        (None, None, 12, 0, 0, None),
        (None, None, 3, 0, 4, None),
        (None, None, 0, 0, 0, None),
    ]
    as_read = [None if metrics is None else json.loads(metrics) for metrics in seen]
    assert [None if metrics is None else json.loads(metrics) for metrics in viewed] == as_read
    assert as_read[1] == {"gen_ai": {"child_errors": 1, "had_errors": True, "input_tokens": 12, "steps": 2}}


def test_a_record_reads_its_totals_from_its_metrics():
    """Whatever it is made of: a line of the journal has no totals of its own."""
    fields = {"event_id": event_id(1), "run_id": "r", "agent_name": "a", "job_type": "j", "start_time": at(1)}
    assert RunRecord.from_fields({**fields, "metrics_json": CALLED}).input_tokens == 5
