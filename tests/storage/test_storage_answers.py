"""What agents cost, did and achieved: by each dimension the figures of the runs, and unknown where nothing was reported."""

from __future__ import annotations

import json

import pytest
from storage_cases import T0, at, link, run

from otel_agent_telemetry.storage.answers import answers, check_by
from otel_agent_telemetry.storage.runs import link_commits, upsert_runs
from otel_agent_telemetry.storage.session_metrics import SessionFigure, write_figures
from tests.storage.test_storage_alerts import refresh

HOUR_NS = 3_600_000_000_000


def metrics(cost=1.0, tokens=100, **more):
    used = {"model_calls": 2, "input_tokens": tokens, "output_tokens": 10, "tool_calls": 3, "child_errors": 1, **more}
    return json.dumps(
        {
            "gen_ai": {
                **used,
                "cost_usd": cost,
                "by_model": {"m": {"model_calls": 2, "input_tokens": tokens, "output_tokens": 10}},
            }
        }
    )


def turn(number, **more):
    """A turn of a coding agent in a repository, for a team and a ticket."""
    labels = json.dumps({"team": f"t{number % 2}", "ticket": f"T-{number}"})
    given = {"status": "success", "end_time": at(number + 1), "updated": 1, "labels": labels, "tool_calls": 3}
    return run(number, **{**given, "git_repo": "https://g.example/r", "model": "m", **more})


def figure(name, value, *, session="s1", sender="claude-code", seconds=5):
    return SessionFigure(f"{session}{name}", 0, T0, at(seconds), sender, session, name, "", value)


@pytest.fixture
def stored(database):
    """Two turns of one session with decisions, one run of which nothing but its end is known, commits and metrics."""
    with database.writing() as connection:
        told = metrics(tool_decisions=3, rejected_tools=1)
        upsert_runs(
            connection,
            [
                turn(1, session_id="s1", agent_name="claude-code", metrics_json=told),
                turn(2, session_id="s1", agent_name="claude-code", metrics_json=told, status="failed"),
                run(3, status="success", agent_name="plain", end_time=at(4), updated=1),
            ],
        )
        link_commits(
            connection,
            [link(1, "aaaaaaa", associated=3), link(2, "aaaaaaa", associated=3), link(2, "bbbbbbb", associated=3)],
        )
        write_figures(connection, [
            figure("commits", 5), figure("lines_added", 40), figure("lines_removed", 2), figure("cost_usd", 99.0),
            figure("commits", 1, session="elsewhere"), figure("cost_usd", 2.5, session="elsewhere"),
            figure("input_tokens", 7, session="elsewhere"),
        ])  # fmt: skip
    return database


def lines_by(database, by):
    with database.reading() as connection:
        found = answers(connection, by, since_ns=T0 - HOUR_NS, at_ns=T0 + HOUR_NS // 2, limit=100)
    return {line.name: line.to_json() for line in found.lines}, found.whole.to_json()


def test_every_question_has_an_answer_by_agent(stored):
    """Cost, turns, tools, rejected tools, errors, commits, lines; from runs and, once refreshed, from kept figures."""
    for _ in range(2):
        lines, whole = lines_by(stored, "agent")
        assert lines["claude-code"] == {
            "name": "claude-code",
            "cost_usd": 4.5,
            "unpriced_tokens": 0,
            "input_tokens": 207,
            "output_tokens": 20,
            "model_calls": 4,
            "turns": 2,
            "failed": 1,
            "tool_calls": 6,
            "rejected_tools": 2,
            "step_errors": 2,
            "commits": 2,
            "lines_added": 40,
            "lines_removed": 2,
        }
        assert (whole["cost_usd"], whole["turns"], whole["commits"]) == (4.5, 3, 2)
        refresh(stored)


def test_what_nobody_reported_is_unknown_and_not_zero(stored):
    """Users of cost dashboards take a 0 for an answer: here it is null, and `unknown` for people."""
    plain = lines_by(stored, "agent")[0]["plain"]
    unknown = ("cost_usd", "tool_calls", "rejected_tools", "step_errors", "commits", "lines_added", "lines_removed")
    assert [plain[name] for name in unknown] == [None] * 7
    assert (plain["turns"], plain["failed"]) == (1, 0)


def test_metrics_count_only_where_no_run_says_it(stored):
    """A commit that a hook has seen is not counted again; a session of metrics alone has its cost."""
    lines, _ = lines_by(stored, "session")
    assert (lines["s1"]["cost_usd"], lines["s1"]["commits"], lines["s1"]["lines_added"]) == (2.0, 2, 40)
    assert (lines["elsewhere"]["cost_usd"], lines["elsewhere"]["commits"], lines["elsewhere"]["turns"]) == (2.5, 1, 0)


@pytest.mark.parametrize(
    ("by", "turns"),
    [
        ("model", {"m": 2, "": 1}),
        ("repository", {"https://g.example/r": 2}),
        ("label", {"team=t0": 1, "team=t1": 1, "ticket=T-1": 1, "ticket=T-2": 1}),
        ("label:team", {"t0": 1, "t1": 1}),
        ("label:ticket", {"T-1": 1, "T-2": 1}),
        ("user", {}),
    ],
)
def test_runs_are_grouped_by_anything(stored, by, turns):
    """By which session or folder tokens went is asked of Claude Code (anthropics/claude-code 81644).

    Team and ticket come from OTEL_RESOURCE_ATTRIBUTES=agent.label.team=…; runs without the name have no line.
    """
    assert {name: line["turns"] for name, line in lines_by(stored, by)[0].items() if line["turns"]} == turns
    check_by(by)


@pytest.mark.parametrize("by", ["", "agents", "label:", "host"])
def test_unknown_groups_are_refused(by):
    with pytest.raises(ValueError, match="label:NAME"):
        check_by(by)
