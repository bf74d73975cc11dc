"""The dry run over the past speaks when the live evaluation did: the same runs, the same instants, the same step."""

from __future__ import annotations

import json
import random

import pytest

from otel_agent_telemetry.alert_judging import NEVER_OPEN, Reading, judge
from otel_agent_telemetry.alert_rules import Rule
from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.operations.alert_history import alerts_of_past
from tests.storage.alert_cases import Evaluations, moment, tick, write
from tests.storage.storage_cases import Database, event_id, run

RULES = """
[cost]
measure = "cost"
over = "10m"
limit = 6
agent = "*"
resolve_after = "2m"

[tokens]
measure = "tokens"
over = "5m"
limit = 60
label = "team=*"
resolve_after = "1m"

[duration]
measure = "duration"
over = "10m"
limit = "20m"
resolve_after = "90s"
resolve_at = 0.8

[failures]
measure = "failures"
over = "4m"
limit = 1
resolve_after = "3m"

[quiet]
measure = "silence"
limit = "4m"
agent = "a"
resolve_after = "0s"

[dear]
measure = "cost"
over = "run"
limit = 3

[long]
measure = "duration"
over = "run"
limit = "3m"
agent = "*"

[unusual]
measure = "tokens"
over = "run"
median_share = 2.0
median_runs = 5
agent = "b"
"""
TICKS = 60


@pytest.fixture
def database(tmp_path):
    opened = Database(tmp_path)
    yield opened
    opened.close()


def an_agents_day(chance):
    """Runs that begin and end at any moment of 45 minutes, as (when it is known, state), in their order."""
    happens = []
    for number in range(1, 40):
        began = chance.uniform(0, TICKS)
        took = chance.choice([0.3, 2, 5, 12])
        tokens = chance.choice([0, 5, 10, 40])
        used = {"model_calls": 1, "input_tokens": tokens, "cost_usd": chance.choice([0, 0.5, 1, 4])}
        common = {
            "created_at": moment(began),
            "start_time": moment(began),
            "agent_name": chance.choice("ab"),
            "labels": json.dumps({"team": chance.choice("xy")}),
        }
        ends = moment(began + took)
        metrics = json.dumps({"gen_ai": {**used, "by_model": {"m": {"model_calls": 1, "input_tokens": tokens}}}})
        status = chance.choice(["success", "success", "failed"])
        end = {
            **common,
            "end_time": ends,
            "updated_at": ends,
            "metrics_json": metrics,
            "duration_ms": int(took * 30_000),
        }
        happens.append((began, run(number, **{**common, "updated_at": moment(began)})))
        happens.append((began + took, run(number, status=status, **end)))
    return sorted(happens, key=lambda one: one[0])


@pytest.mark.parametrize("seed", range(3))
def test_the_dry_run_says_what_the_service_said(database, seed):
    """Every rule, every subject, each to the instant: alerts that opened, and when they were resolved."""
    happens = an_agents_day(random.Random(seed))
    evaluations = Evaluations(database, RULES)
    for number in range(TICKS):
        while happens and happens[0][0] <= number:
            write(database, happens.pop(0)[1])
        evaluations.at(tick(number))
    live = evaluations.opened_at()
    with database.reading() as connection:
        now_ns = tick(TICKS - 1)
        dry = alerts_of_past(connection, evaluations.rules, since_ns=tick(0), now_ns=now_ns)
    assert {rule for rule, *_ in live} >= {"cost", "tokens", "duration", "failures", "dear", "long"}
    assert sorted((one.rule, one.subject, one.opened_at, one.resolved_at) for one in dry) == live


def test_an_open_run_counts_from_its_last_state(database):
    """What it had used before nobody knows any more."""
    metrics = json.dumps({"gen_ai": {"cost_usd": 9, "model_calls": 1, "by_model": {"m": {"model_calls": 1}}}})
    write(database, run(1, created_at=moment(0), start_time=moment(0), updated_at=moment(6.5), metrics_json=metrics))
    rules = Evaluations(database, '[r]\nmeasure = "cost"\nover = "run"\nlimit = 1').rules
    with database.reading() as connection:
        (found,) = alerts_of_past(connection, rules, since_ns=tick(0), now_ns=tick(20))
    assert (found.subject, found.value, found.opened_at, found.resolved_at) == (event_id(1), 9.0, moment(7), None)
    assert parse_iso(found.opened_at) == tick(7)


def test_alerts_from_before_the_time_are_left_out_unless_they_were_open_in_it(database):
    """`--since` asks what one would have heard since then."""
    for number, began in enumerate((0, 100), start=1):
        ends = {"end_time": moment(began + 1), "updated_at": moment(began + 1), "status": "failed"}
        write(database, run(number, **{"created_at": moment(began), "start_time": moment(began), **ends}))
    rules = Evaluations(database, '[r]\nmeasure = "failures"\nover = "1m"\nlimit = 0\nresolve_after = "5m"').rules
    with database.reading() as connection:
        found = [alerts_of_past(connection, rules, since_ns=tick(since), now_ns=tick(200)) for since in (0, 5, 50, 150)]
    assert [len(alerts) for alerts in found] == [2, 2, 1, 0]


@pytest.mark.parametrize("seed", range(20))
def test_each_alert_opens_before_it_is_resolved_and_noise_adds_none(seed):
    """Over any series: opened and resolved take turns; values between the two thresholds change nothing."""
    chance = random.Random(seed)
    rule = Rule(name="r", measure="cost", over_s=600, limit=10.0, resolve_after_s=90)
    values = [chance.choice([None, 0.0, 8.9, 9.5, 10.0, 10.5, 30.0]) for _ in range(400)]
    standing, changes = NEVER_OPEN, []
    for number, value in enumerate(values):
        standing, change = judge(rule, standing, Reading(value, 10.0), number * 30_000_000_000)
        changes += [(number, change)] if change else []
    assert [change for _, change in changes] == ["opened", "resolved"] * (len(changes) // 2) + ["opened"] * (
        len(changes) % 2
    )
    for number, change in changes:
        if change == "opened":
            assert values[number] > 10
        else:
            known = [value for value in values[: number + 1] if value is not None]
            assert all(value <= 9 for value in known[-2:])
