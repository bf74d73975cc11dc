"""The columns that repeat the figures of `metrics_json`, and values of theirs that a caller gives."""

from __future__ import annotations

import json

import pytest

from otel_agent_telemetry.column_checks import fits
from otel_agent_telemetry.columns import LATER_COLUMNS
from otel_agent_telemetry.run_totals import folded, totals_in, with_totals
from otel_agent_telemetry.testing import capture_runs

USED = {"input_tokens": 7, "output_tokens": 2, "model_calls": 1, "tool_calls": 3, "models": ["m"], "cost_usd": 0.5}
TOTALS = {"input_tokens": 7, "output_tokens": 2, "model_calls": 1, "tool_calls": 3, "model": "m", "cost_usd": 0.5}


def metrics(**used):
    return json.dumps({"files": 1, "gen_ai": used})


def test_totals_are_read_from_the_metrics():
    """Each figure under the name of its column; the other metrics are none of them."""
    assert totals_in(metrics(**USED)) == TOTALS
    assert with_totals({"metrics_json": metrics(**USED), "host": "h"})["input_tokens"] == 7


def test_the_model_is_the_one_that_was_called_most():
    """Of several called as often, the first by name; without calls by model, the first of the models."""
    by_model = {"b": {"model_calls": 2}, "a": {"model_calls": 1}, "c": {"model_calls": 2}}
    assert totals_in(metrics(by_model=by_model, models=["a", "b", "c"]))["model"] == "b"
    assert totals_in(metrics(models=["z", "a"]))["model"] == "z"
    assert totals_in(metrics(model="given", by_model=by_model))["model"] == "given"


@pytest.mark.parametrize(
    "text",
    [None, "", "{}", "no JSON", '["gen_ai"]', '{"gen_ai":[]}', '{"gen_ai":null}', '{"gen_ai":{"input_tokens":"many"}}',
     '{"gen_ai":{"input_tokens":-1,"cost_usd":-1,"tool_calls":true,"model_calls":1.5}}',
     '{"gen_ai":{"input_tokens":18446744073709551616,"cost_usd":true,"models":[1],"by_model":{}}}'],
)  # fmt: skip
def test_what_is_no_figure_gives_no_total(text):
    """Anybody may have written the metrics."""
    assert totals_in(text) == {}


@pytest.mark.parametrize(
    ("used", "cost"),
    [
        ({"by_model": {"m": {"model_calls": 2, "reported_model_calls": 2, "reported_cost_nusd": 250_000_000}}}, 0.25),
        ({"by_model": {"m": {"model_calls": 2, "reported_model_calls": 1, "reported_cost_nusd": 250_000_000}}}, None),
        ({"reported_cost_nusd": 250_000_000, "model_calls": 1}, 0.25),
        ({"run_cost_nusd": 250_000_000, "by_model": {"m": {"model_calls": 2}}}, 0.25),
        ({"run_cost_nusd": 250_000_000, "cost_usd": 2}, 2.0),
        ({"by_model": "m", "reported_cost_nusd": "much"}, None),
    ],
)
def test_a_cost_that_spans_report_for_every_call_is_the_runs(used, cost):
    """What is left to a price list is not known here."""
    assert totals_in(json.dumps({"gen_ai": used})).get("cost_usd") == cost


def test_what_is_given_in_a_column_counts_before_the_metrics():
    """It moves there, so that every way of storing the state gives the same row."""
    state = {
        "metrics_json": metrics(input_tokens=1, model_calls=2),
        "input_tokens": 9,
        "model": "given",
        "tool_calls": 0,
    }
    moved = folded(state)
    assert moved.keys() == {"metrics_json"}
    assert totals_in(moved["metrics_json"]) == {"input_tokens": 9, "model_calls": 2, "model": "given"}
    assert json.loads(moved["metrics_json"])["files"] == 1


def test_a_run_that_was_read_and_is_posted_again_keeps_its_metrics():
    """Columns that say what the metrics say change nothing."""
    state = with_totals({"metrics_json": metrics(**USED)})
    assert folded(state) == {"metrics_json": metrics(**USED)}


def test_totals_of_a_stored_row_are_replaced_by_those_of_its_own_metrics():
    """A row may hold the totals of its steps too, which a state must not carry."""
    assert with_totals({"host": "h", "input_tokens": 100}) == {"host": "h"}


def test_what_an_application_gives_by_name_is_a_total_of_its_run():
    """It counts before what was counted, and other figures stay."""
    with capture_runs() as captured:
        with captured.client.track_run("agent", "job") as run:
            run.set_metrics(input_tokens=120, model="m", cost_usd="0.25", metrics_json={"files": 2})
        found = captured.run(run.run_id)
    assert (found.input_tokens, found.model, found.cost_usd) == (120, "m", 0.25)
    assert json.loads(found.metrics_json)["files"] == 2


def test_names_of_the_application_that_became_columns_keep_their_values():
    """What a later column cannot hold stays in the context, where it was before there was the column."""
    given = {"model": {"vendor": "v"}, "labels": ["a"], "input_tokens": "many", "session_id": 7, "plumbing": "old"}
    with capture_runs() as captured:
        with captured.client.track_run("agent", "job") as run:
            run.set_metrics(**given)
        found = captured.run(run.run_id)
    assert json.loads(found.context_json) == given
    assert (found.model, found.labels, found.input_tokens) == (None, None, 0)


def test_labels_and_a_session_are_columns():
    """Given by name."""
    with capture_runs() as captured:
        with captured.client.track_run("agent", "job", labels={"team": "core"}, session_id="s-1") as run:
            pass
        found = captured.run(run.run_id)
    assert (json.loads(found.labels), found.session_id) == ({"team": "core"}, "s-1")


def test_a_name_of_a_later_column_is_the_applications_own_also_where_it_stands_alone():
    """No other name that is no column has to be there."""
    with capture_runs() as captured:
        with captured.client.track_run("agent", "job", model={"layers": 3}) as run:
            pass
        found = captured.run(run.run_id)
    assert (found.model, json.loads(found.context_json)) == (None, {"model": {"layers": 3}})


@pytest.mark.parametrize("name", sorted(LATER_COLUMNS))
def test_whether_a_value_fits_is_asked_of_anything(name):
    """Objects that raise, too."""

    class Hostile:
        def __getattr__(self, _name):
            raise RuntimeError

    assert fits(name, None)
    assert not fits(name, Hostile())
