"""Tokens that a run's own span reports in the plainest way: the same as by the rule, or left to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from otel_agent_telemetry.otel.plain_totals import plain_figures, plain_total
from otel_agent_telemetry.otel.usage import own_usage
from otel_agent_telemetry.otel.usage_attributes import COST_NAMES, MODEL_NAMES, TOKEN_NAMES
from tests.otel.span_views import view

NAMES = some.sampled_from(sorted({*TOKEN_NAMES, *COST_NAMES, *MODEL_NAMES, "gen_ai.provider.name", "other"}))
VALUES = some.one_of(some.integers(-1, 2**51), some.booleans(), some.floats(), some.sampled_from(("7", "x", "")))


@given(some.dictionaries(NAMES, VALUES, max_size=4))
def test_what_is_taken_for_plain_is_what_the_rule_gives(attributes):
    """Any spellings of any figures, with any values."""
    total = plain_total(plain_figures(tuple(attributes)), attributes)
    assert not total or total == own_usage(view(attributes, status="unset"))


@pytest.mark.parametrize(
    "keys", [("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"), ("llm.token_count.prompt",)]
)
def test_usual_spellings_are_plain(keys):
    """Else every run would take the long way, and nobody would notice."""
    assert plain_total(plain_figures(keys), dict.fromkeys(keys, 3)) == own_usage(
        view(dict.fromkeys(keys, 3), status="unset")
    )
