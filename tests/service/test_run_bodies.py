"""A run's body becomes a state in one pass; it is the state, or the error, of the rules applied one after another."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some
from service_cases import ended, state

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.redaction import mask_columns
from otel_agent_telemetry.run_state import checked_state
from otel_agent_telemetry.run_totals import folded
from otel_agent_telemetry.service.run_bodies import column_values, put_duration, run_from_body, without_misfits

PLAIN = ended(1, agent_owner="owner", items_failed=3, metrics_json={"tokens": 1}, trace_id="ab" * 16)
TEXTS = [
    "",
    " ",
    "a",
    "ä\x00",
    "\n",
    "a/b",
    "failure",
    "SUCCESS",
    "running",
    "ci",
    "robot",
    "null",
    "[]",
    '{"a": 1}',
    "{",
]
TIMES = ["2026-01-31T12:00:00Z", "2026-02-30T00:00:00+00:00", "2026-01-31T12:00:00", "2026-01-31 14:00:00.5+02:00"]
IDS = [PLAIN["event_id"].upper(), PLAIN["event_id"][:-1], "0" * 32, "G" * 16, "0" * 16, "x" * 256]
REPOS = ["https://user:password@example.org/r.git", "git@github.com:o/r.git", "https://example.org/r"]
OTHERS = [None, True, 0, 1, -1, 2**31, 2**63, 2**80, 1.0, 1.5, [], {}, {"a": [1]}, [1], float("inf")]
anything = some.one_of(
    some.sampled_from([*TEXTS, *TIMES, *IDS, *REPOS, *OTHERS]), some.text(max_size=5), some.integers()
)
members = some.dictionaries(some.sampled_from(COLUMNS), anything, max_size=6)
left_out = some.sets(some.sampled_from(sorted(PLAIN)), max_size=2)


def outcome(call, *arguments):
    """Return what a call returns, or the text of the rule that it names."""
    try:
        return call(*arguments)
    except RecordError as problem:
        return str(problem)


@settings(max_examples=500, deadline=None)
@given(members, left_out)
@example({"items_failed": 2**31, "duration_ms": 2**62}, set())
@example({"metrics_json": "null", "git_repo": ""}, {"created_at", "updated_at"})
def test_one_pass_gives_what_the_rules_give(more, without):
    """Values of any kind in any columns, in the order of the body: the same record, or an error with the same text."""
    body = {name: value for name, value in PLAIN.items() if name not in without} | more

    fast = outcome(run_from_body, body)

    assert fast == outcome(by_the_rules, body)


def by_the_rules(body):
    """The state of a body, a rule after the other."""
    state = checked_state(column_values(without_misfits(body)))
    put_duration(state)
    return folded(mask_columns(state))


@settings(max_examples=300, deadline=None)
@given(some.dictionaries(some.sampled_from([*COLUMNS, "future"]), anything, max_size=6))
def test_a_checked_state_is_what_a_record_keeps(values):
    """The rules without those of the API, on mappings from anywhere."""
    values = {**PLAIN, "metrics_json": "{}", **values}

    fast = outcome(checked_state, values)

    assert (fast if isinstance(fast, str) else RunRecord(**fast)) == outcome(RunRecord.from_fields, values)


def test_the_usual_body_is_not_looked_at_twice(monkeypatch):
    """What clients send of a run takes the pass alone, without the rules for what is odd."""
    monkeypatch.setattr("otel_agent_telemetry.service.run_bodies.check_column", pytest.fail)

    assert run_from_body(PLAIN)["metrics_json"] == '{"tokens":1}'
    assert run_from_body(state(2, error_summary=None))["status"] == "running"


def test_what_a_recording_process_says_of_its_span_is_no_field_of_the_clients():
    """A word of ours goes beside the columns; any other value under that name is a field of the client's own."""
    assert run_from_body({**PLAIN, "span_work": "none"})["span_work"] == "none"
    for own in ("hard", 7, ["none"], {"none": 1}):
        kept = run_from_body({**PLAIN, "span_work": own})
        assert "span_work" not in kept
        assert orjson.loads(kept["context_json"])["span_work"] == own
