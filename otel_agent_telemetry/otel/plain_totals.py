"""What a run's own span reports of the whole, where it says it most plainly: numbers of tokens, and no more.

`usage.own_usage` is the rule. What a tuple of attribute names leaves to it is worked out once, for
an `AttributePlan`: names of models, costs and totals, two spellings of one figure, tokens from a
cache, senders with rules of their own. A property test compares the two.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.usage_attributes import COST_NAMES, FIGURE_OF, MODEL_NAMES, TOKEN_NAMES

_PLAIN_FIGURES: Final = ("input_tokens", "output_tokens")
_TAKES_A_LOOK: Final = COST_NAMES | MODEL_NAMES | names.SENDER_MARKS
_MOST: Final = 1 << 50


def plain_figures(keys: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Return (figure, attribute) for names that report tokens and nothing else; none where the long way is right."""
    if not _TAKES_A_LOOK.isdisjoint(keys):
        return ()
    figures: dict[str, str] = {}
    for key in TOKEN_NAMES.intersection(keys):
        figure, _ = FIGURE_OF.get(key, ("", 0))
        if figure not in _PLAIN_FIGURES or figure in figures or key in names.ONLY_BESIDE:
            return ()
        figures[figure] = key
    return tuple(sorted(figures.items()))


def plain_total(figures: tuple[tuple[str, str], ...], attributes: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens that attributes report; empty where a value takes a longer look."""
    total: dict[str, int] = {}
    for figure, key in figures:
        value = attributes[key]
        if type(value) is not int or not 0 <= value <= _MOST:
            return {}
        total[figure] = value
    return total
