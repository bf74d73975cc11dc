"""What a token of each kind costs by the price list, where that is the same for all of a run's calls.

Asking the list for a price takes a good part of a millisecond, and a list of runs asks for hundreds. Prices are so
many dollars a token, some of them up to a length of the call: four questions give the rates, and the cost of a usage
is a sum. For longer calls, and prices a request, the list itself is asked.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from types import ModuleType
from typing import Any, Final, NamedTuple

_ASKED: Final = 1_000
_PROBES: Final = {
    "input_tokens": {"input_tokens": _ASKED},
    "output_tokens": {"output_tokens": _ASKED},
    "cache_read_tokens": {"input_tokens": _ASKED, "cache_read_tokens": _ASKED},
    "cache_write_tokens": {"input_tokens": _ASKED, "cache_write_tokens": _ASKED},
}
"""Kind of tokens → the usage that shows its rate. Cached tokens are input tokens, too."""
_CACHED: Final = ("cache_read_tokens", "cache_write_tokens")
_BY_REQUESTS: Final = "requests"


class Rates(NamedTuple):
    """US dollars a token by kind, for calls with at most `most_input` input tokens."""

    of_kind: Mapping[str, Decimal]
    most_input: float


def flat_cost(
    prices: ModuleType, model: str, provider_id: str | None, at: datetime, tokens: Mapping[str, int], *, calls: int
) -> Decimal | None:
    """Return what tokens of so many calls cost in US dollars; None where the price list itself must be asked.

    Raises what the price list raises for a model that it does not know.
    """
    read = tokens.get("input_tokens", 0)
    if sum(tokens.get(kind, 0) for kind in _CACHED) > read:
        return None  # a usage that contradicts itself, for which the list has its own answer
    _, listed = prices.data_snapshot.get_snapshot().find_provider_model(model, None, provider_id, None)
    rates = _rates_of(prices, _ByIdentity(listed.get_prices(at)))
    if rates is None or -(-read // calls) > rates.most_input:
        return None
    return sum((rates.of_kind[kind] * count for kind, count in tokens.items()), Decimal())


class _ByIdentity:
    """A price as the key of a cache: equal to itself alone, and kept as long as its rates."""

    def __init__(self, price: Any) -> None:
        self.price = price

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and other.price is self.price

    def __hash__(self) -> int:
        return id(self.price)


@functools.lru_cache(maxsize=4_096)
def _rates_of(prices: ModuleType, key: _ByIdentity) -> Rates | None:
    """Return the rates of a price; None for one that is not so many dollars a token."""
    listed = {name: value for name, value in vars(key.price).items() if not name.startswith("_") and value is not None}
    steps = [tier.start for value in listed.values() if not isinstance(value, Decimal) for tier in value.tiers]
    most_input = min(steps, default=math.inf)
    if most_input < _ASKED or any(name.startswith(_BY_REQUESTS) for name in listed):
        return None
    asked = {
        kind: key.price.calc_price(prices.Usage(**usage))["total_price"] / _ASKED for kind, usage in _PROBES.items()
    }
    for kind in _CACHED:
        asked[kind] -= asked["input_tokens"]
    return Rates(asked, most_input)
