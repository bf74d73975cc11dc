"""Prices of one's own: what a file may say, what it costs, and which mistake an error names."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.storage.own_prices import read_prices

USED = {"input_tokens": 1000, "output_tokens": 100, "model_calls": 2, "provider": "azure"}
AT = datetime(2026, 11, 28, tzinfo=UTC)
PRICE = {"input": 2, "output": 10}


def prices(tmp_path, **models):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"date": "2026-11-01", "models": models}))
    return read_prices(path)


def test_a_price_is_for_a_million_tokens(tmp_path):
    """Input and output; no float in between."""
    assert prices(tmp_path, m=PRICE).cost_of("m", USED, AT) == 1000 * 2_000 + 100 * 10_000


def test_cached_tokens_are_part_of_the_input_and_have_a_price_of_their_own(tmp_path):
    """Without one they cost what input costs."""
    used = {**USED, "cache_read_input_tokens": 600, "cache_write_input_tokens": 100}
    cached = prices(tmp_path, m={**PRICE, "cache_read": 0.5, "cache_write": 3})
    assert cached.cost_of("m", used, AT) == 300 * 2_000 + 600 * 500 + 100 * 3_000 + 100 * 10_000
    assert prices(tmp_path, m=PRICE).cost_of("m", used, AT) == prices(tmp_path, m=PRICE).cost_of("m", USED, AT)


@pytest.mark.parametrize(
    ("models", "cost"),
    [
        ({"GPT-4o": {"input": 1, "output": 0}}, 1),
        ({"gpt-4o": {"input": 1, "output": 0}, "azure/gpt-4o": {"input": 2, "output": 0}}, 2),
        ({"gpt-*": {"input": 1, "output": 0}, "gpt-4*": {"input": 3, "output": 0}}, 3),
        ({"azure/*": {"input": 4, "output": 0}, "gpt-4o": {"input": 1, "output": 0}}, 1),
        ({"azure/*": {"input": 4, "output": 0}}, 4),
        ({"openai/gpt-4o": {"input": 1, "output": 0}, "gpt": {"input": 1, "output": 0}}, None),
    ],
)
def test_the_most_exact_name_counts(tmp_path, models, cost):
    """Provider and model before the model, a name before a beginning, the longer beginning before the shorter."""
    found = prices(tmp_path, **models).cost_of("gpt-4o", USED, AT)
    assert found == (None if cost is None else cost * 1_000_000)


@pytest.mark.parametrize(
    ("day", "cost"), [("2025-12-31", None), ("2026-01-01", 1), ("2026-06-01", 3), ("2027-01-01", 3)]
)
def test_the_price_of_the_day_of_the_run_counts(tmp_path, day, cost):
    """Before the first there is none."""
    several = [{"from": "2026-06-01", "input": 3, "output": 0}, {"from": "2026-01-01", "input": 1, "output": 0}]
    at = datetime.fromisoformat(day).replace(tzinfo=UTC)
    assert prices(tmp_path, m=several).cost_of("m", USED, at) == (None if cost is None else cost * 1_000_000)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "no JSON"),
        ("[]", "`date` and `models`"),
        ('{"models": {}}', "date must be a day"),
        ('{"date": "soon", "models": {}}', "date must be a day"),
        ('{"date": "2026-11-01", "models": {}, "modles": 1}', "'modles' is none of"),
        ('{"date": "2026-11-01", "models": {"m": 5}}', "models['m'] must be an object"),
        ('{"date": "2026-11-01", "models": {"m": []}}', "models['m'] has no price"),
        ('{"date": "2026-11-01", "models": {"m": {"input": 1}}}', "models['m'].output is missing"),
        ('{"date": "2026-11-01", "models": {"m": {"input": "1", "output": 1}}}', "models['m'].input must be a number"),
        ('{"date": "2026-11-01", "models": {"m": {"input": -1, "output": 1}}}', "models['m'].input must be a number"),
        ('{"date": "2026-11-01", "models": {"m": {"input": 1, "output": NaN}}}', "models['m'].output must be a number"),
        ('{"date": "2026-11-01", "models": {"m": {"inptu": 1, "output": 1}}}', "'inptu' is none of"),
        (
            '{"date": "2026-11-01", "models": {"m": {"from": 1, "input": 1, "output": 1}}}',
            "models['m'].from must be a day",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path, text, named):
    """With the file."""
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        read_prices(path)
    assert named in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_file_that_is_missing_is_named(tmp_path):
    """As one that cannot be read."""
    with pytest.raises(ConfigurationError, match="No such file"):
        read_prices(tmp_path / "none.json")
