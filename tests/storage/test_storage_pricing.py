"""What a run cost: worked out where it is read, the same by every way of reading."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from storage_cases import run

from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.storage.pricing import cost_of, with_cost
from otel_agent_telemetry.storage.queries import find_run, list_runs, own_state, runs_named
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.runs import upsert_runs

AT = datetime(2026, 1, 31, tzinfo=UTC)
CHAT = {"model_calls": 1, "input_tokens": 1000, "output_tokens": 100}
COST_OF_CHAT = 210_000
"""10^-9 dollars: 1000 tokens in at 0.15, 100 out at 0.60 dollars a million."""


def called(by_model, **more):
    return json.dumps({"gen_ai": {"by_model": by_model, **more}, "pages": 3})


def shown(record):
    return json.loads(with_cost(record).metrics_json)["gen_ai"]


def test_a_model_call_has_its_price():
    """By model and provider, as the list says."""
    assert cost_of("gpt-4o-mini", {**CHAT, "provider": "openai"}, AT) == COST_OF_CHAT


@pytest.mark.parametrize("provider", [None, "openai", "a gateway of our own"])
def test_a_provider_that_is_not_known_does_not_hide_the_model(provider):
    """The model's name finds it."""
    assert cost_of("gpt-4o-mini", {**CHAT, "provider": provider}, AT) == COST_OF_CHAT


@pytest.mark.parametrize(
    ("used", "model"),
    [
        ({"input_tokens": 5}, "a model of our own"),
        ({}, "gpt-4o-mini"),
        ({"input_tokens": "5", "model_calls": "1"}, "gpt-4o-mini"),
        ({"input_tokens": 1, "cache_read_input_tokens": 5}, "gpt-4o-mini"),
        ({"input_tokens": 5}, ""),
    ],
)
def test_what_has_no_known_price_has_none(used, model):
    """Unknown is not zero; figures that cannot be are nobody's error."""
    assert cost_of(model, used, AT) is None


def test_many_calls_cost_what_each_of_them_costs():
    """To the token, although only their sum is known."""
    three = {"model_calls": 3, "input_tokens": 3001, "output_tokens": 299}
    assert cost_of("gpt-4o-mini", three, AT) == 3001 * 150 + 299 * 600


def test_short_calls_are_not_priced_as_one_long_call():
    """Some models cost more a token in long requests: the sum of ten short ones is none."""
    short = {"model_calls": 1, "input_tokens": 100_000}
    ten = {"model_calls": 10, "input_tokens": 1_000_000}
    one_long = {"model_calls": 1, "input_tokens": 1_000_000}
    costs = [cost_of("gemini-2.5-pro", used, AT) for used in (short, ten, one_long)]
    assert costs[1] == 10 * costs[0]
    assert costs[2] > costs[1]


def test_a_run_costs_what_its_models_cost():
    """Each model shows its part; one that the list does not know has none."""
    record = run(metrics_json=called({"gpt-4o-mini": CHAT, "our own": CHAT}, model_calls=2))
    assert shown(record) == {
        "by_model": {"gpt-4o-mini": {**CHAT, "cost_usd": 0.00021}, "our own": CHAT},
        "cost_usd": 0.00021,
        "model_calls": 2,
    }
    assert json.loads(with_cost(record).metrics_json)["pages"] == 3


def test_a_cost_that_the_run_reports_is_kept():
    """The run knows better, for example what its provider billed."""
    assert shown(run(metrics_json=called({"gpt-4o-mini": CHAT}, cost_usd=7)))["cost_usd"] == 7


def test_pricing_twice_changes_nothing():
    """A command that reads a service gets runs that have their cost."""
    once = with_cost(run(metrics_json=called({"gpt-4o-mini": CHAT})))
    assert with_cost(once) is once


@pytest.mark.parametrize(
    "metrics",
    [
        None,
        "no JSON, by_model",
        '["by_model"]',
        '{"gen_ai": "by_model"}',
        '{"gen_ai": {"by_model": 1}}',
        '{"gen_ai": {"by_model": {"gpt-4o-mini": 1}}}',
        called({"our own": CHAT}),
    ],
)
def test_without_a_known_model_a_run_is_read_as_it_is(metrics):
    """Metrics are anybody's JSON."""
    record = run(metrics_json=metrics)
    assert with_cost(record) is record


def test_a_cost_that_an_earlier_version_stored_is_shown_in_dollars():
    """Roll-ups of spans held it; the same calls may have come by another way too and are not added to it."""
    assert shown(run(metrics_json='{"gen_ai": {"cost_nusd": 210000}}')) == {"cost_usd": 0.00021}
    both = run(metrics_json=called({"gpt-4o-mini": CHAT}, cost_nusd=COST_OF_CHAT))
    assert shown(both)["cost_usd"] == 0.00021


def test_every_way_of_reading_gives_the_cost_and_the_stored_state_has_none(database):
    """So the same state again is a duplicate, whatever price list was installed when it first came."""
    made = run(status="success", updated=1, metrics_json=called({"gpt-4o-mini": CHAT}))
    record = RunRecord.from_fields(made.to_fields())  # with its totals
    with database.writing() as connection:
        assert upsert_runs(connection, [record]) == ["inserted"]
    with database.reading() as connection:
        found = find_run(connection, event_id=record.event_id)
        ways = [
            found.record,
            *list_runs(connection, RunQuery()),
            *runs_named(connection, record.run_id, limit=1),
        ]
        unpriced = list_runs(connection, RunQuery(priced=False))
        assert own_state(connection, record.event_id) == record
    assert ways == [with_cost(record)] * 3
    assert unpriced == [record]
    with database.writing() as connection:
        assert upsert_runs(connection, [record]) == ["duplicate"]


def test_recording_and_writing_load_no_price_list(tmp_path):
    """Not even a store that writes rows."""
    code = (
        "import sys, otel_agent_telemetry.storage.store, otel_agent_telemetry.storage.queries\n"
        "sys.exit('genai_prices' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path).returncode == 0


def test_what_spans_report_counts_before_the_price_list():
    """Of two calls of one model one reports its cost: the list prices the other, and no trace of the sum is shown."""
    both = {"model_calls": 2, "input_tokens": 3000, "output_tokens": 300}
    of_one = {"reported_model_calls": 1, "reported_input_tokens": 2000, "reported_output_tokens": 200}
    used = {"gpt-4o-mini": {**both, **of_one, "reported_cost_nusd": 250_000_000}}
    found = shown(run(metrics_json=called(used)))
    assert found["cost_usd"] == pytest.approx(0.25 + COST_OF_CHAT / 1e9)
    assert set(found["by_model"]["gpt-4o-mini"]) == {*both, "cost_usd"}


def test_a_cost_that_the_run_reports_for_the_whole_is_its_cost():
    """Whatever the list says of its calls."""
    found = shown(run(metrics_json=called({"gpt-4o-mini": CHAT}, run_cost_nusd=250_000_000)))
    assert (found["cost_usd"], "run_cost_nusd" in found) == (0.25, False)
