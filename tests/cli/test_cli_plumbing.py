"""Plumbing: hidden and counted by `runs`, kept and filtered everywhere else; and the filters by later columns."""

from __future__ import annotations

import csv
import io

import pytest
from command import agent_telemetry
from stored import aged, store


@pytest.fixture
def mixed(config):
    """Two runs of an agent and three of plumbing, one of which failed."""
    plumbing = [aged(number, 1, agent_name="agent", plumbing=1) for number in (3, 4)]
    runs = [
        aged(1, 2, session_id="s", environment="prod", labels='{"team":"core"}'),
        aged(2, 3, user_id="u", change_id="7", metrics_json='{"gen_ai":{"models":["m"],"input_tokens":5}}'),
    ]
    store(config, *runs, *plumbing, aged(5, 0.1, status="failed", plumbing=1, session_id="s"))
    return config


def listed(config, *options):
    return [run["event_id"][-1] for run in agent_telemetry(config, "runs", "--json", *options).json]


def test_runs_hides_plumbing_and_counts_what_it_hides(mixed):
    """On stderr, so that a program reads the same; with the other filters."""
    result = agent_telemetry(mixed, "runs")
    assert len(result.out.splitlines()) == 1 + 2
    assert result.err == "3 runs of plumbing are hidden; --all lists them.\n"
    failed = agent_telemetry(mixed, "runs", "--status", "failed")
    assert failed.out == "No runs match.\n"
    assert failed.err.startswith("1 runs of plumbing")


def test_runs_lists_plumbing_when_asked(mixed):
    """By `--all`, or by the id of such a run."""
    assert listed(mixed, "--all") == ["5", "4", "3", "1", "2"]
    assert agent_telemetry(mixed, "runs", "--all").err == ""
    (run,) = agent_telemetry(mixed, "runs", "--json", "--status", "failed", "--all").json
    assert listed(mixed, "--run-id", run["run_id"]) == ["5"]
    assert run["plumbing"] is True


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--session", "s"], ["1"]),
        (["--session", "s", "--all"], ["5", "1"]),
        (["--environment", "prod"], ["1"]),
        (["--host", "no-such-host"], []),
        (["--label", "team=core"], ["1"]),
        (["--label", "team=other"], []),
        (["--user", "u"], ["2"]),
        (["--change", "7"], ["2"]),
        (["--model", "m"], ["2"]),
    ],
)
def test_runs_are_found_by_the_later_columns(mixed, options, expected):
    """As by agent and job."""
    assert listed(mixed, *options) == expected


def test_a_label_has_a_name_and_a_value(mixed):
    """Anything else is a usage error."""
    assert agent_telemetry(mixed, "runs", "--label", "team").code == 2


@pytest.mark.parametrize(("options", "number"), [([], 5), (["--no-plumbing"], 2), (["--plumbing"], 3)])
def test_an_export_has_plumbing_unless_it_is_left_out(mixed, options, number):
    """Other programs decide for themselves."""
    exported = agent_telemetry(mixed, "export", "--format", "csv", *options).out
    rows = list(csv.DictReader(io.StringIO(exported)))
    assert len(rows) == number


def test_totals_of_a_tree_are_shown_when_asked_for(config):
    """By `runs --tree`, as a table and as JSON, and by `show` of a run with runs inside."""
    used = '{"gen_ai":{"input_tokens":5,"model_calls":1}}'
    outer = aged(1, 1, metrics_json=used)
    store(config, outer, aged(2, 0.5, parent_run_id=outer.run_id, metrics_json=used))
    trees = [run["tree"] for run in agent_telemetry(config, "runs", "--json", "--tree").json]
    assert [(tree["runs"], tree["input_tokens"]) for tree in trees] == [(1, 5), (2, 10)]
    table = agent_telemetry(config, "runs", "--tree").out.splitlines()
    assert table[0].endswith("TOKENS IN  TOKENS OUT  COST USD")
    assert agent_telemetry(config, "show", outer.event_id, "--json").json["tree"]["runs"] == 2
    assert "whole tree            2 runs, 2 model calls" in agent_telemetry(config, "show", outer.event_id).out
