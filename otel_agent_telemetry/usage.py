"""Usage of models and tools: calls, tokens; as mappings that can be added.

A *usage* maps names to counts (integers ≥ 0) or to lists of words: `model_calls`,
`tool_calls`, `input_tokens`, `models` … Counts are added, lists united, so order and grouping
do not matter. `otel.usage` extracts usages from spans.

Prices are no part of a usage: a reader works them out from what each model used (`storage.pricing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

Usage = Mapping[str, Any]
"""Name → count or list of words."""

USAGE_KEY: Final = "gen_ai"
"""The member of a run's `metrics_json` that holds its usage."""
BY_MODEL: Final = "by_model"
"""Model → its calls, its tokens and its provider: what a price depends on."""
COST: Final = "cost_nusd"
"""10^-9 US dollars, in roll-ups that earlier versions stored."""
REPORTED: Final = "reported_"
"""Before a name in the usage of a model: the part of that figure whose cost the spans reported."""
REPORTED_COST: Final = "reported_cost_nusd"
"""10^-9 US dollars that spans of model calls reported, under their model, or beside it for calls without one."""
RUN_COST: Final = "run_cost_nusd"
"""10^-9 US dollars that the run's own span reported for the whole."""
_TOKENS: Final = "_tokens"
_MAX_WORDS: Final = 100


def added(usages: Iterable[Usage]) -> dict[str, Any]:
    """Return the sum of usages, names in order: counts add up, lists and objects are united, of two texts one stays."""
    total: dict[str, Any] = {}
    for usage in usages:
        for name, value in usage.items():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + value
            elif isinstance(value, Mapping):
                total[name] = _united(total.get(name, {}), value)
            elif isinstance(value, str):
                total[name] = max(total.get(name, ""), value)
            else:
                total[name] = sorted({*total.get(name, ()), *value})[:_MAX_WORDS]
    return dict(sorted(total.items()))


def _united(known: Mapping[str, Usage], more: Mapping[str, Usage]) -> dict[str, Usage]:
    """Merge objects of usages by name; those beyond the first hundred names are left out."""
    united = {name: added([known.get(name, {}), more.get(name, {})]) for name in {**known, **more}}
    return dict(sorted(united.items())[:_MAX_WORDS])


def shown_usage(*, own: Usage, steps: Usage) -> dict[str, Any]:
    """Return a run's usage for readers, from the usage on its own span and the sum of its steps.

    The run's own tokens count only when no step has any, because frameworks repeat the total
    on the root span; so with a cost.
    """
    steps_have_tokens = any(name.endswith(_TOKENS) and count for name, count in steps.items())
    usage = added([steps] if steps_have_tokens else [own, steps])
    usage.pop(RUN_COST, None)
    if RUN_COST in own and not _reports_cost(steps):
        usage[RUN_COST] = own[RUN_COST]
    if usage.get("child_errors"):
        usage["had_errors"] = True
    return dict(sorted(usage.items()))


def _reports_cost(usage: Usage) -> bool:
    by_model = usage.get(BY_MODEL, {})
    return REPORTED_COST in usage or any(REPORTED_COST in one for one in by_model.values())
