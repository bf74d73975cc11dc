"""What a run used becomes sums of its models, a reported cost apart from one to be worked out."""

from __future__ import annotations

import json

import pytest

from otel_agent_telemetry.storage.usage_sums import Key, Sums, usage_of


def sums_of(used, *, model=None, cost=None):
    return usage_of(json.dumps({"gen_ai": used}), model=model, cost_usd=cost)


CALLS = {"model_calls": 2, "input_tokens": 100, "output_tokens": 20}
WITH_REPORT = {**CALLS, "reported_model_calls": 1, "reported_input_tokens": 60, "reported_cost_nusd": 700}


@pytest.mark.parametrize(
    ("used", "cost", "expected"),
    [
        ({"by_model": {"m": CALLS}}, None, {Key("m", "", "list", 0): Sums(1, 2, 100, 20)}),
        (
            {"by_model": {"m": {**CALLS, "provider": "openai"}}},
            0.5,
            {Key("m", "openai", "report", 0): Sums(1, 2, 100, 20, 0, 0, 500_000_000)},
        ),
        (
            {"by_model": {"m": WITH_REPORT}},
            None,
            {
                Key("m", "", "report", 0): Sums(1, 1, 60, 0, 0, 0, 700),
                Key("m", "", "list", 0): Sums(0, 1, 40, 20),
            },
        ),
        ({"input_tokens": 9}, None, {Key("", "", "nothing", 0): Sums(1, 0, 9)}),
        ({"input_tokens": 9}, 1.0, {Key("", "", "report", 0): Sums(1, 0, 9, 0, 0, 0, 10**9)}),
        ({"input_tokens": 9, "run_cost_nusd": 5}, None, {Key("", "", "report", 0): Sums(1, 0, 9, 0, 0, 0, 5)}),
    ],
)
def test_costs_that_were_reported_are_kept_apart(used, cost, expected):
    """Tokens of a call whose cost the spans reported are not priced once more."""
    assert sums_of(used, cost=cost) == expected


def test_long_calls_are_kept_apart():
    """Because of some models a token of a call with more than 200,000 costs twice as much."""
    long, short = {"model_calls": 1, "input_tokens": 250_000}, {"model_calls": 1, "input_tokens": 2_500}
    assert {key.call_size for one in (long, short) for key in sums_of({"by_model": {"m": one}})} == {0, 31}


@pytest.mark.parametrize("metrics", [None, "", "[]", "no json", '{"gen_ai": 3}', '{"gen_ai": {"by_model": [1]}}'])
def test_what_is_no_usage_counts_nothing(metrics):
    """`metrics_json` holds what applications wrote."""
    assert not any(sums.calls or sums.input_tokens for sums in usage_of(metrics, model=None, cost_usd=None).values())


def test_numbers_that_are_none_count_nothing_and_too_great_ones_are_cut():
    """A sum over a million runs still fits its column."""
    used = {"model_calls": True, "input_tokens": -4, "output_tokens": 2**62}
    assert sums_of({"by_model": {"m": used}}) == {Key("m", "", "list", 0): Sums(1, 0, 0, 10**12)}
