"""`price`: costs computed again, stored, and what changed."""

from __future__ import annotations

import json

import pytest
from command import agent_telemetry
from stored import aged, store

CALLED = {"model_calls": 1, "input_tokens": 1_000_000, "output_tokens": 0}


def called(model, **more):
    return json.dumps({"gen_ai": {**CALLED, "by_model": {model: CALLED}, **more}})


@pytest.fixture
def own(tmp_path):
    """A file of prices, which `write` replaces; and the environment that names it."""
    path = tmp_path / "prices.json"

    def write(price):
        path.write_text(json.dumps({"date": "2026-11-01", "models": {"own-model": {"input": price, "output": 1}}}))
        return {"TELEMETRY_PRICES": str(path)}

    return write


@pytest.fixture
def runs(config):
    """A run with a price of one's own, one whose cost was reported, one without a price, one without a model."""
    metrics = {1: called("own-model"), 2: called("own-model", cost_usd=9.5), 3: called("nobody-knows-it"), 4: None}
    store(config, *(aged(number, number, metrics_json=text) for number, text in metrics.items()))
    return config


def costs(config, env):
    listed = agent_telemetry(config, "runs", "--json", env=env).json
    return {int(run["event_id"][-1]): run["cost_usd"] for run in listed}


def test_costs_are_stored_and_what_changed_is_printed(runs, own):
    """Again at other prices: only what differs changes, and what was reported stays."""
    first = agent_telemetry(runs, "price", "--json", env=own(2)).json
    assert [(one["event_id"][-1], one["before"], one["after"]) for one in first["changes"]] == [("1", None, 2.0)]
    assert (first["priced"], first["unpriced"], first["after_usd"]) == (2, 1, 2.0)
    assert "of 2026-11-01" in first["sources"][0]
    env = own(3)
    assert costs(runs, env) == {1: 2.0, 2: 9.5, 3: None, 4: None}
    second = agent_telemetry(runs, "price", env=env)
    assert "The cost of 1 runs changed: 2.000000 before, 3.000000 now." in second.out
    assert costs(runs, env)[1] == 3.0
    assert "The cost of 0 runs changed." in agent_telemetry(runs, "price", env=env).out


def test_a_dry_run_stores_nothing(runs, own):
    """It says what would change."""
    assert "The cost of 1 runs would change" in agent_telemetry(runs, "price", "--dry-run", env=own(2)).out
    assert agent_telemetry(runs, "price", "--dry-run", "--json", env=own(2)).json["changed"] == 1


def test_runs_without_a_stored_cost_are_priced_when_they_are_read(runs, own):
    """By the prices in use then."""
    assert costs(runs, own(4)) == {1: 4.0, 2: 9.5, 3: None, 4: None}


def test_a_file_that_cannot_be_used_is_a_configuration_error(runs, tmp_path):
    """Of every command that shows costs."""
    for command in (["price"], ["runs"]):
        result = agent_telemetry(runs, *command, env={"TELEMETRY_PRICES": str(tmp_path / "none.json")})
        assert result.code == 2
        assert "none.json" in result.err
