"""Alerts over stored runs: what each measure reads, and that each alert opens and is resolved once."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from storage_cases import SECOND, T0, event_id, link, run, statements

from otel_agent_telemetry.storage.figure_refresh import next_refresh
from otel_agent_telemetry.storage.runs import link_commits
from tests.storage.alert_cases import Evaluations, moment, tick, write

TODAY = datetime.fromtimestamp(T0 / SECOND, UTC).date()
HOUR = 120
"""Evaluations in an hour."""


def spent(dollars=0.0, tokens=0):
    used = {"model_calls": 1, "input_tokens": tokens, "cost_usd": dollars}
    return json.dumps({"gen_ai": {**used, "by_model": {"m": {"model_calls": 1, "input_tokens": tokens}}}})


def ended(number, *, began=0.0, took=1.0, status="success", **more):
    """A run that began at an evaluation and took some of them."""
    times = {"created_at": moment(began), "start_time": moment(began), "end_time": moment(began + took)}
    return run(
        number, status=status, **{**times, "updated_at": times["end_time"], "duration_ms": int(took * 30_000), **more}
    )


def refresh(database):
    while True:
        with database.reading() as connection:
            found = next_refresh(connection, TODAY)
            if found is None:
                return
            if connection.dialect.name == "sqlite":
                connection.rollback()
            with database.writing() as writing:
                found.write(writing)


def rule(measure="cost", over="1h", limit="10", **more):
    lines = [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    over = [] if over is None else [f'over = "{over}"']
    return "\n".join(["[r]", f'measure = "{measure}"', *over, *([] if limit is None else [f"limit = {limit}"]), *lines])


def test_a_time_sums_the_runs_created_in_it(database):
    """From kept figures where they are up to date, and from the runs where they are not: the same number."""
    days = {n: -n * 24 * HOUR for n in (1, 20, 40)}
    write(
        database,
        *(ended(n, began=-n, metrics_json=spent(1)) for n in (1, 2, 3, 4)),
        *(ended(n, began=-2 * HOUR + n, metrics_json=spent(1)) for n in (5, 6)),
        *(ended(10 + n, began=began, metrics_json=spent(1)) for n, began in days.items()),
        ended(90, began=5, metrics_json=spent(100)),
    )
    for _ in range(2):
        for over, whole in (("10m", 4), ("1h", 4), ("3h", 6), ("3d", 7), ("30d", 8)):
            assert Evaluations(database, rule(over=over)).values(tick(0)) == {"": pytest.approx(whole)}, over
        refresh(database)


def test_each_scope_is_summed_by_itself(database):
    """All, one name, or each name; runs without the name count in none of them.

    What each user has spent in a rolling time is asked of Langfuse (langfuse/langfuse 714).
    """
    write(
        database,
        ended(1, began=-1, agent_name="a", session_id="s", labels=json.dumps({"team": "x"}), metrics_json=spent(1)),
        ended(2, began=-2, agent_name="a", user_id="u", labels=json.dumps({"team": "y"}), metrics_json=spent(2)),
        ended(3, began=-3, agent_name="b", labels=json.dumps({"other": "y"}), metrics_json=spent(3)),
    )
    for _ in range(2):
        for scope, values in (
            ({}, {"": 6.0}),
            ({"agent": "*"}, {"a": 3.0, "b": 3.0}),
            ({"agent": "a"}, {"a": 3.0}),
            ({"agent": "nobody"}, {"nobody": 0.0}),
            ({"session": "*"}, {"s": 1.0}),
            ({"user": "*"}, {"u": 2.0}),
            ({"label": "team=*"}, {"team=x": 1.0, "team=y": 2.0}),
            ({"label": "team=x"}, {"team=x": 1.0}),
        ):
            assert Evaluations(database, rule(**scope)).values(tick(0)) == values, scope
        refresh(database)


def test_open_runs_count_with_what_they_used_so_far(database):
    """An agent in an endless loop is found while it loops, also when it began before the rule's time.

    Of Claude Code it is reported that a forgotten loop used 2.88 million tokens in two days (anthropics/claude-code
    9704), and $50 in minutes (40715), and that nobody heard of it.
    """
    write(database, run(1, created_at=moment(-3 * HOUR), start_time=moment(-3 * HOUR), metrics_json=spent(12)))
    evaluations = Evaluations(database, rule())
    assert evaluations.at(tick(0)) == [("opened", "r", "")]
    assert Evaluations(database, rule("duration", limit='"2h"')).values(tick(0)) == {"": 3 * 3600.0}


def test_a_cost_that_nobody_knows_is_no_zero(database):
    """It opens nothing and resolves nothing: a price list that lacks a model must not end an alert.

    Grafana's users get notices, and ends of alerts, for "no data" alone (grafana/grafana 8010, 82578).
    """
    write(database, ended(1, began=-1, metrics_json=spent(11)))
    evaluations = Evaluations(database, rule(over="10m", resolve_after="0s"))
    assert evaluations.at(tick(0)) == [("opened", "r", "")]
    unknown = json.dumps({"gen_ai": {"by_model": {"?": {"model_calls": 1, "input_tokens": 9}}, "input_tokens": 9}})
    write(database, ended(2, began=20, model_calls=1, metrics_json=unknown))
    assert evaluations.values(tick(30)) == {"": None}
    assert evaluations.at(tick(30)) == []
    assert evaluations.at(tick(60)) == [("resolved", "r", "")]


def test_a_noisy_series_opens_and_is_resolved_once(database):
    """A series that swings about its limit is one alert.

    Users of Prometheus ask for this since 2015: flap detection (prometheus/alertmanager 204), a threshold of its
    own to resolve (prometheus/prometheus 6504), keeping noisy alerts open (prometheus/alertmanager 3048).
    """
    evaluations = Evaluations(database, rule("failures", over="2m", limit="1"))
    notices = []
    for number in range(100):
        if number < 60 and number % 5 == 0:  # two failures every 150 s: above the limit for 120 s, then below
            write(database, *(ended(2 * number + n, began=number - 1, status="failed") for n in (0, 1)))
        notices += [(number, *notice) for notice in evaluations.at(tick(number))]
    assert [notice[1] for notice in notices] == ["opened", "resolved"]
    assert notices[0][0] == 0
    assert notices[1][0] == pytest.approx(58 + 20, abs=2)


def test_an_alert_opens_again_after_it_was_resolved(database):
    """One that speaks once and never again is worse than none (BerriAI/litellm 16185, prometheus/prometheus 1372)."""
    evaluations = Evaluations(database, rule("failures", over="2m", limit="0", resolve_after="0s"))
    states = []
    for number in (0, 20, 40):
        write(database, ended(number + 1, began=number - 1, status="failed"))
        for look in (number, number + 5):
            evaluations.restart()
            states += [state for state, *_ in evaluations.at(tick(look))]
    assert states == ["opened", "resolved"] * 3


def test_a_restart_repeats_nothing(database):
    """Users of LiteLLM got the same alert about a budget with every request (BerriAI/litellm 3113, 3738).

    There it was kept in a cache what had been said; here it is in the database, in the transaction of the alert.
    """
    write(
        database,
        ended(1, began=-1, metrics_json=spent(11)),
        run(2, created_at=moment(-5), start_time=moment(-5), metrics_json=spent(50)),
    )
    rules = rule() + "\n" + rule(over="run").replace("[r]", "[each]")
    evaluations = Evaluations(database, rules)
    assert sorted(evaluations.at(tick(0))) == [
        ("opened", "each", event_id(1)),
        ("opened", "each", event_id(2)),
        ("opened", "r", ""),
    ]
    evaluations.restart()
    assert evaluations.at(tick(1)) == [("resolved", "each", event_id(1))]
    evaluations.restart()
    assert evaluations.at(tick(2)) == []
    write(database, ended(2, began=-5, took=7, metrics_json=spent(50)))
    evaluations.restart()
    assert evaluations.at(tick(3)) == [("resolved", "each", event_id(2))]
    evaluations.restart()
    assert evaluations.at(tick(4)) == []


def test_a_run_is_judged_when_it_ends_between_two_looks_or_comes_late(database):
    """Found by the order of arrival: neither a short run nor one that is delivered at its end is missed."""
    evaluations = Evaluations(database, rule(over="run", limit="5"))
    assert evaluations.at(tick(0)) == []
    write(database, ended(1, began=0.1, took=0.1, metrics_json=spent(6)))
    assert evaluations.at(tick(1)) == [("opened", "r", event_id(1))]
    write(database, ended(2, began=-100, took=101, metrics_json=spent(7)), ended(3, began=-2000, metrics_json=spent(8)))
    assert evaluations.at(tick(2)) == [("opened", "r", event_id(2)), ("resolved", "r", event_id(1))]
    assert evaluations.at(tick(3)) == [("resolved", "r", event_id(2))]


def test_a_run_is_compared_with_its_agents_own_past(database):
    """Three times the median of its last runs; before there are five nothing is said."""
    evaluations = Evaluations(database, rule("tokens", over="run", limit=None, median_share=3.0, median_runs=6))
    for number in range(5):
        write(database, ended(number, began=number, metrics_json=spent(tokens=100 + number)))
        assert evaluations.at(tick(number + 1)) == []
    write(
        database, ended(8, began=8, metrics_json=spent(tokens=306)), ended(9, began=8.5, metrics_json=spent(tokens=307))
    )
    write(database, ended(7, began=8, agent_name="new", metrics_json=spent(tokens=9999)))
    assert evaluations.at(tick(10)) == [("opened", "r", event_id(9))]


def test_an_open_run_that_shows_no_life_is_silent(database):
    """A step, an event or a state is a sign of life; the end resolves the alert."""
    evaluations = Evaluations(database, rule("silence", over="run", limit='"5m"', resolve_after="1m"))
    write(database, run(1, created_at=moment(0), start_time=moment(0), updated_at=moment(0)))
    notices = [evaluations.at(tick(number)) for number in range(13)]
    assert notices == [[]] * 11 + [[("opened", "r", event_id(1))], []]
    write(database, run(1, created_at=moment(0), start_time=moment(0), updated_at=moment(13)))
    assert [evaluations.at(tick(number)) for number in (13, 14, 15)] == [[], [], [("resolved", "r", event_id(1))]]
    assert evaluations.at(tick(24)) == [("opened", "r", event_id(1))]
    write(database, ended(1, began=0, took=24.5))
    assert evaluations.at(tick(25)) == [("resolved", "r", event_id(1))]


def test_an_agent_that_stops_running_is_silent(database):
    """A nightly job that does not come; one that never was is no silence (Grafana's "no data" alerts)."""
    scopes = ({"agent": "agent"}, {"session": "s"}, {"user": "u"}, {"label": "team=x"}, {})
    silent = [Evaluations(database, rule("silence", over=None, limit='"1h"', **scope)) for scope in scopes]
    assert [evaluations.values(tick(0)) for evaluations in silent] == [{}] * 5
    owner = {"session_id": "s", "user_id": "u", "labels": json.dumps({"team": "x"})}
    write(database, ended(1, began=-3 * HOUR, **owner))
    refresh(database)
    for evaluations in silent:
        (value,) = evaluations.values(tick(0)).values()
        assert value == pytest.approx(3 * 3600 - 30, abs=1)
    write(database, ended(2, began=-1, agent_name="other"))
    silent = [[state for state, *_ in evaluations.at(tick(n))] for n, evaluations in enumerate(silent)]
    assert silent == [["opened"], *[["opened", "resolved"]] * 3, ["resolved"]]


def test_alerts_end_with_their_rule_and_with_their_run(database):
    """A rule that is removed, and a run that retention deletes, leave no alert open for ever."""
    write(database, ended(1, began=-1, metrics_json=spent(11)), run(2, created_at=moment(-1), metrics_json=spent(50)))
    evaluations = Evaluations(
        database, rule() + "\n" + rule(over="run", agent="agent", limit="20").replace("[r]", "[e]")
    )
    assert len(evaluations.at(tick(0))) == 2
    evaluations.rules = evaluations.rules[1:]
    assert evaluations.at(tick(1)) == [("resolved", "r", "")]
    database.execute("DELETE FROM agent_runs WHERE event_id = :id", id=event_id(2))
    assert evaluations.at(tick(2)) == [("resolved", "e", event_id(2))]


def test_two_services_evaluate_an_instant_once(postgresql_database):
    """The second finds the instant evaluated, or the lock held: nobody is notified twice (BerriAI/litellm 32011)."""
    write(postgresql_database, ended(1, began=-1, metrics_json=spent(11)))
    one, other = (Evaluations(postgresql_database, rule()) for _ in range(2))
    assert [one.at(tick(0)), other.at(tick(0)), other.at(tick(1))] == [[("opened", "r", "")], [], []]


def test_figures_are_kept_by_label_and_repository_and_labels_may_be_any_text(database):
    """A label longer than an index takes is kept without its end; what is no object of labels counts nowhere."""
    long = {"team": "x" * 5000}
    write(
        database,
        ended(1, labels=json.dumps(long), git_repo="https://example.com/r", metrics_json=spent(1)),
        ended(2, labels='"no object"', metrics_json=spent(1)),
    )
    refresh(database)
    rows = database.rows("SELECT dimension, name, runs FROM work_periods WHERE length(period) = 10 AND name <> ''")
    names = {dimension: name for dimension, name, _ in rows}
    assert names["repository"] == "https://example.com/r"
    assert names["label"].startswith("team=xxx")
    assert len(names["label"]) == 255


def test_commits_are_no_part_of_the_figures_of_a_run(database):
    """A commit that is associated later changes no hour."""
    write(database, ended(1))
    refresh(database)
    with database.writing() as connection:
        link_commits(connection, [link(1)])
    assert database.rows("SELECT count(*) FROM changed_hours") == [(0,)]


def test_no_evaluation_reads_the_whole_table_of_runs(sqlite_database):
    """Each measure finds its runs by an index: a service with a million of them evaluates every 30 seconds."""
    database = sqlite_database
    write(database, *(ended(number, began=-number, session_id=f"s{number}", status="failed") for number in range(50)))
    write(database, run(60, created_at=moment(-1), start_time=moment(-1)))
    refresh(database)
    database.execute("ANALYZE")
    rules = [rule(over="1h"), rule("duration", limit='"1h"', agent="*"), rule("failures"), rule(over="run")]
    rules += [rule("silence", over=None, limit='"1h"', session="s1"), rule("silence", over="run", limit='"1h"')]
    rules += [rule("tokens", over="run", limit=None, median_share=2.0)]
    for number, text in enumerate(rules):
        evaluations = Evaluations(database, text)
        evaluations.at(tick(number))
        with statements() as asked:
            evaluations.at(tick(number + 10))
        plans = [line for line in database.plans(asked) if "agent_runs" in line]
        assert plans
        assert not [line for line in plans if line.startswith("SCAN agent_runs") and "INDEX" not in line], (text, plans)
