"""Sums cost what their runs cost, and a quarter is priced by the days on which prices changed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from otel_agent_telemetry.storage import pricing
from otel_agent_telemetry.storage.priced_sums import Spending, price_changes
from otel_agent_telemetry.storage.pricing import cost_of
from otel_agent_telemetry.storage.usage_sums import usage_of

DAYS = [f"2026-03-{day:02d}" for day in range(1, 31)]


@pytest.fixture
def own_prices(tmp_path):
    """A model whose price changes twice and ends as it began."""
    steps = [("2026-03-05", 2), ("2026-03-20", 1)]
    prices = [{"input": 1, "output": 1}, *({"from": day, "input": cost, "output": cost} for day, cost in steps)]
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"date": "2026-03-01", "models": {"own": prices}}))
    pricing.use_own_prices(file)
    yield
    pricing.use_own_prices(None)


def spending_of(model, used, day="2026-03-10"):
    spending = Spending()
    for key, sums in usage_of(json.dumps({"gen_ai": {"by_model": {model: used}}}), model=model, cost_usd=None).items():
        spending.add(day, key, sums)
    return spending


@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro"])
@pytest.mark.parametrize("length", [900, 150_000, 260_000])
def test_a_sum_costs_what_its_calls_cost(model, length):
    """Input, output, and tokens from a cache; some prices are higher for long calls."""
    used = {"model_calls": 4, "input_tokens": 4 * length, "output_tokens": 2_000, "cache_read_input_tokens": 800}
    exact = cost_of(model, used, datetime(2026, 3, 10, 12, tzinfo=UTC))
    assert spending_of(model, used).cost_nusd == pytest.approx(exact, rel=1e-3)


def test_each_day_has_its_price(own_prices):
    """A file of own prices says since when each counts."""
    used = {"model_calls": 1, "input_tokens": 1_000_000, "output_tokens": 0}
    costs = [spending_of("own", used, day).cost_usd for day in ("2026-03-04", "2026-03-05", "2026-03-19", "2026-03-20")]
    assert costs == pytest.approx([1, 2, 2, 1])


def test_a_price_that_changed_parts_the_days(own_prices):
    """Each day of own prices is one, also where the price ends as it began."""
    assert price_changes([("own", "", 0)], DAYS) == ["2026-03-01", "2026-03-05", "2026-03-20"]


def test_prices_that_never_changed_leave_one_part():
    """Nor do models without a price."""
    assert price_changes([("gpt-4o", "", 0), ("nobody's", "", 0)], DAYS) == ["2026-03-01"]
    assert price_changes([], DAYS[:1]) == ["2026-03-01"]


def test_tokens_without_a_price_are_no_cost():
    """They are counted by model beside it."""
    spending = spending_of("nobody's", {"model_calls": 1, "input_tokens": 7})
    assert (spending.cost_usd, spending.unpriced) == (None, {"nobody's": 7})
