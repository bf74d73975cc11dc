"""Usage of models and tools: calls, tokens, cost; as mappings that can be added.

A *usage* maps names to counts (integers ≥ 0) or to lists of words: `model_calls`,
`tool_calls`, `input_tokens`, `models` … Counts are added, lists united, so order and grouping
do not matter. `otel.usage` extracts usages from spans.

Cost is kept as an integer in `cost_nusd`, 10^-9 US dollars, because a sum of floats depends
on their order; readers see `cost_usd`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

Usage = Mapping[str, Any]
"""Name → count or list of words."""

USAGE_KEY: Final = "gen_ai"
"""The member of a run's `metrics_json` that holds its usage."""
COST: Final = "cost_nusd"
_TOKENS: Final = "_tokens"
_MAX_WORDS: Final = 100


def added(usages: Iterable[Usage]) -> dict[str, Any]:
    """Return the sum of usages, names in order."""
    total: dict[str, Any] = {}
    for usage in usages:
        for name, value in usage.items():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + value
            else:
                total[name] = sorted({*total.get(name, ()), *value})[:_MAX_WORDS]
    return dict(sorted(total.items()))


def shown_usage(*, own: Usage, steps: Usage) -> dict[str, Any]:
    """Return a run's usage for readers, from the usage on its own span and the sum of its steps.

    The run's own tokens count only when no step has any, because frameworks repeat the total
    on the root span.
    """
    steps_have_tokens = any(name.endswith(_TOKENS) and count for name, count in steps.items())
    usage = added([steps] if steps_have_tokens else [own, steps])
    cost = usage.pop(COST, None)
    if cost is not None:
        usage["cost_usd"] = cost / 1e9
    if usage.get("child_errors"):
        usage["had_errors"] = True
    return dict(sorted(usage.items()))
