"""A cost by the rate of a token is the one that the price list gives for the same usage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import genai_prices
import pytest
from genai_prices.data import providers
from hypothesis import assume, given
from hypothesis import strategies as some

from otel_agent_telemetry.storage import pricing
from otel_agent_telemetry.storage.token_rates import flat_cost

AT = datetime(2026, 6, 1, 15, 30, tzinfo=UTC)
MODELS = [(provider.id, model.id) for provider in providers for model in provider.models]
COUNTS = some.integers(0, 3_000_000)


@pytest.fixture(scope="module")
def asked_one_by_one():
    """Return the cost that is worked out without rates."""

    def cost(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pricing, "flat_cost", lambda *_, **__: None)
            return pricing.cost_of(*arguments)

    return cost


@given(
    of=some.sampled_from(MODELS),
    days=some.integers(0, 900),
    minutes=some.integers(0, 1439),
    calls=some.integers(1, 50),
    tokens=some.tuples(COUNTS, COUNTS, COUNTS, COUNTS),
)
def test_any_usage_of_any_model_costs_the_same_by_either_way(asked_one_by_one, of, days, minutes, calls, tokens):
    """Also at the hours and days at which prices change, and for a usage that contradicts itself."""
    provider, model = of
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens")
    used = {"provider": provider, "model_calls": calls, **dict(zip(names, tokens, strict=True))}
    at = AT - timedelta(days=days, minutes=minutes)
    expected = asked_one_by_one(model, used, at)
    # Fewer tokens than calls cannot be spread over them, and have no cost one by one.
    assume(expected is not None or tokens[2] + tokens[3] > tokens[0] or tokens[0] >= calls)
    assert pricing.cost_of(model, used, at) == expected


@pytest.mark.parametrize(
    ("model", "tokens", "has_rate"),
    [
        ("gpt-4o-mini", 10**9, True),
        ("gemini-2.5-pro", 200_000, True),
        ("gemini-2.5-pro", 200_001, False),
        ("claude-sonnet-4-5", 50_000, True),
    ],
)
def test_a_rate_counts_up_to_the_length_of_a_call_at_which_the_price_changes(model, tokens, has_rate):
    """Or nothing would be gained for the models that most runs call."""
    cost = flat_cost(genai_prices, model, None, AT, {"input_tokens": tokens}, calls=1)
    assert (cost is not None) == has_rate
