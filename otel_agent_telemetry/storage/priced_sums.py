"""What sums of usage (`usage_sums`) cost by the prices in use, worked out when they are read.

A price is asked for once for each model and day, as what a single token costs, so that a page over
a quarter asks for some hundreds of prices, and not for one of each run. Unknown is not zero:
tokens without a price are counted apart, under their model.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from otel_agent_telemetry.storage.pricing import cost_of, own_price_days, own_prices_file
from otel_agent_telemetry.storage.usage_sums import BY_LIST, BY_REPORT, TOKENS, Key, Sums, typical_call

_CALLS: Final = 1_000
"""A price is asked for so many calls, because an answer is rounded to 10^-9 dollars."""
_OUTPUT: Final = 1_000


class _TokenPrices(NamedTuple):
    """10^-9 US dollars of one token that is plain input, output, read from a cache, written into one."""

    plain: float
    output: float
    read: float
    written: float


@dataclass(slots=True)
class Spending:
    """Sums of usage with their cost. `cost_nusd` is of what has a price; `has_cost`: anything has."""

    runs: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_nusd: float = 0.0
    has_cost: bool = False
    unpriced: dict[str, int] = field(default_factory=dict)
    """Model, "" for none, → tokens that have no price."""

    def add(self, day: str, key: Key, sums: Sums) -> None:
        """Add the sums of one key, whose runs were created on a day, `2026-01-31`."""
        for name in Sums._fields[:-1]:
            setattr(self, name, getattr(self, name) + getattr(sums, name))
        cost = _cost_of(day, key, sums)
        if cost is None:
            tokens = sums.input_tokens + sums.output_tokens
            self.unpriced[key.model] = self.unpriced.get(key.model, 0) + tokens
        else:
            self.cost_nusd += cost
            self.has_cost = True

    def include(self, other: Spending) -> None:
        """Add another spending."""
        for name in (*Sums._fields[:-1], "cost_nusd"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.has_cost = self.has_cost or other.has_cost
        for model, tokens in other.unpriced.items():
            self.unpriced[model] = self.unpriced.get(model, 0) + tokens

    @property
    def tokens(self) -> int:
        """Return input and output tokens together."""
        return self.input_tokens + self.output_tokens

    @property
    def cost_usd(self) -> float | None:
        """Return the US dollars of what has a price; None where nothing has."""
        return self.cost_nusd / 1e9 if self.has_cost else None


def _cost_of(day: str, key: Key, sums: Sums) -> float | None:
    """Return 10^-9 US dollars of sums; None where nobody knows."""
    if key.priced_by == BY_REPORT:
        return float(sums.cost_nusd)
    if key.priced_by != BY_LIST or not (sums.input_tokens or sums.output_tokens):
        return None
    prices = _prices_of(key.model, key.provider, key.call_size, day, own_prices_file())
    if prices is None:
        return None
    plain = max(sums.input_tokens - sums.cache_read_tokens - sums.cache_write_tokens, 0)
    counts = (plain, sums.output_tokens, sums.cache_read_tokens, sums.cache_write_tokens)
    return sum(count * price for count, price in zip(counts, prices, strict=True))


def price_changes(models: Sequence[tuple[str, str, int]], days: Sequence[str]) -> list[str]:
    """Return the first of some days in their order, and each on which a price of one of the models has changed.

    `models` are model, provider and `Key.call_size`. Each is asked for at both ends, and between them where those
    differ; a price of the list that changes twice and ends as it began is taken as unchanged.
    """
    own = {day for day in own_price_days() if days[0] < day <= days[-1]}
    # A day without runs may be missing.
    found = {days[bisect_left(days, day)] for day in own}
    edges = [0, *sorted(days.index(day) for day in found), len(days)]
    for start, end in pairwise(edges):
        for model in models:
            found |= _changes_between(model, days, start, end - 1)
    return [days[0], *sorted(found)]


def _changes_between(model: tuple[str, str, int], days: Sequence[str], first: int, last: int) -> set[str]:
    """Return the days after the first on which a price differs from that of the day before, by bisection."""
    own = own_prices_file()
    if first >= last or _prices_of(*model, days[first], own) == _prices_of(*model, days[last], own):
        return set()
    if last - first == 1:
        return {days[last]}
    middle = (first + last) // 2
    return _changes_between(model, days, first, middle) | _changes_between(model, days, middle, last)


@lru_cache(maxsize=10_000)
def _prices_of(model: str, provider: str, call_size: int, day: str, _own_prices: object) -> _TokenPrices | None:
    """Return what tokens of a model cost in calls of a size on a day; None for a model without a price.

    `_own_prices` tells one file of own prices from the next.
    """
    at = datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)
    named = {"provider": provider} if provider else {}
    length = typical_call(call_size) * _CALLS
    call = {**named, "model_calls": _CALLS, "input_tokens": length}
    asked = cost_of(model, call, at)
    if asked is None:
        return None
    output, read, written = (
        cost_of(model, {**call, name: count}, at)
        for name, count in zip(TOKENS[1:], (_OUTPUT * _CALLS, length, length), strict=True)
    )
    return _TokenPrices(
        plain=asked / length,
        output=0.0 if output is None else (output - asked) / (_OUTPUT * _CALLS),
        read=(asked if read is None else read) / length,
        written=(asked if written is None else written) / length,
    )
