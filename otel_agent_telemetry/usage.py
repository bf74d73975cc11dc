"""What was used: model calls, tool calls, tokens, cost; as objects that add up.

A *usage* maps names to counts (integers ≥ 0) or to lists of words: `model_calls`,
`tool_calls`, `input_tokens`, `models` … Usages add up: counts by sum, lists by union, so any
order and any grouping gives the same. `otel.usage` makes them of spans.

Cost is counted in `cost_nusd`, 10^-9 US dollars, because sums of fractions depend on their
order; it is shown as `cost_usd`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

Usage = Mapping[str, Any]
"""Name → count or list of words."""

USAGE_KEY: Final = "gen_ai"
"""Where a run's `metrics_json` shows it."""
COST: Final = "cost_nusd"
_TOKENS: Final = "_tokens"
_MAX_WORDS: Final = 100


def added(usages: Iterable[Usage]) -> dict[str, Any]:
    """The sum of usages, names in order."""
    total: dict[str, Any] = {}
    for usage in usages:
        for name, value in usage.items():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + value
            else:
                total[name] = sorted({*total.get(name, ()), *value})[:_MAX_WORDS]
    return dict(sorted(total.items()))


def shown_usage(*, own: Usage, steps: Usage) -> dict[str, Any]:
    """A run's usage as a reader sees it, from what its own span says of the whole and the sum of its steps.

    The steps count. The run's own tokens stand in where no step told any, because frameworks
    repeat the total on the root.
    """
    told_by_steps = any(name.endswith(_TOKENS) and count for name, count in steps.items())
    usage = added([steps] if told_by_steps else [own, steps])
    cost = usage.pop(COST, None)
    if cost is not None:
        usage["cost_usd"] = cost / 1e9
    if usage.get("child_errors"):
        usage["had_errors"] = True
    return dict(sorted(usage.items()))
