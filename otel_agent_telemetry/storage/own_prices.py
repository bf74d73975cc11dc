"""Prices of one's own: the file that `TELEMETRY_PRICES` names. They count before the price list of genai-prices.

The file is a JSON object:

    {"date": "2026-11-01",
     "models": {"gpt-4o": {"input": 2.5, "output": 10, "cache_read": 1.25},
                "azure/gpt-4o*": [{"input": 3, "output": 12},
                                  {"from": "2026-06-01", "input": 2, "output": 8}]}}

`date`: the day of the prices, shown where costs are computed again. A name of `models` is a model
or `provider/model`, in any case; one that ends in `*` is every model that begins so, and the most
exact name counts. Prices are US dollars for a million tokens: `input` and `output` are required,
`cache_read` and `cache_write` are the price of input where they are missing. Of several prices
the last whose `from`, a day in UTC, is not after the run's start counts; one without `from` counts
from the beginning, and a run before the first has no price of one's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from otel_agent_telemetry.errors import ConfigurationError

_KINDS: Final = ("input", "output", "cache_read", "cache_write")
_MEMBERS: Final = frozenset({*_KINDS, "from"})
_MILLION: Final = 1_000_000
_NUSD: Final = 1_000_000_000
_MAX_PRICE: Final = 1_000_000
_BEGINNING: Final = date.min


@dataclass(frozen=True, slots=True)
class _Price:
    """What a model costs from a day on, in US dollars for a million tokens."""

    since: date
    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal


@dataclass(frozen=True, slots=True)
class OwnPrices:
    """The prices of a file. `date`: their day, as the file has it."""

    date: str
    models: Mapping[str, tuple[_Price, ...]]

    def cost_of(self, model: str, used: Mapping[str, Any], at: datetime) -> int | None:
        """Return 10^-9 US dollars for what the calls of a model used at a time; None for a model without a price."""
        price = self._price_of(model, used.get("provider"), at)
        if price is None:
            return None
        tokens = {name: count for name, count in used.items() if isinstance(count, int)}
        read, written = tokens.get("cache_read_input_tokens", 0), tokens.get("cache_write_input_tokens", 0)
        # Cached tokens are a part of the input here (`otel.usage_attributes`), and have prices of their own.
        plain = max(tokens.get("input_tokens", 0) - read - written, 0)
        cost = plain * price.input + tokens.get("output_tokens", 0) * price.output
        cost += read * price.cache_read + written * price.cache_write
        return round(cost * _NUSD / _MILLION)

    @property
    def days(self) -> set[str]:
        """Return the days from which a price counts, but for those that count from the beginning."""
        every = (price.since for prices in self.models.values() for price in prices)
        return {since.isoformat() for since in every if since != _BEGINNING}

    def _price_of(self, model: str, provider: object, at: datetime) -> _Price | None:
        """Return the price of a model at a time; None where the file has none."""
        wanted = [f"{provider}/{model}".lower(), model.lower()] if isinstance(provider, str) else [model.lower()]
        name = next((word for word in wanted if word in self.models), None) or self._pattern_of(wanted)
        prices = self.models[name] if name is not None else ()
        day = at.astimezone(UTC).date()
        return next((price for price in reversed(prices) if price.since <= day), None)

    def _pattern_of(self, wanted: list[str]) -> str | None:
        """Return the longest name ending in `*` that one of the names begins with."""
        found = [
            name for name in self.models if name.endswith("*") and any(word.startswith(name[:-1]) for word in wanted)
        ]
        # The longest is the most exact: `gpt-4o*` goes before `gpt*`.
        return max(found, key=len, default=None)


def read_prices(path: Path) -> OwnPrices:
    """Return the prices of a file. Raises ConfigurationError, which names the file and the member that is wrong."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as problem:
        raise _wrong(path, problem.strerror or str(problem)) from problem
    except (ValueError, RecursionError) as problem:
        raise _wrong(path, f"it is no JSON ({problem})") from None
    if not isinstance(value, dict) or not isinstance(value.get("models"), dict):
        raise _wrong(path, "it must be an object with `date` and `models`")
    if unknown := sorted(value.keys() - {"date", "models"}):
        raise _wrong(path, f"{unknown[0]!r} is none of date, models")
    day = value.get("date")
    _day(path, "date", day)
    return OwnPrices(str(day), {name.lower(): _prices(path, name, given) for name, given in value["models"].items()})


def _prices(path: Path, name: str, given: Any) -> tuple[_Price, ...]:
    """Return the prices of one model, in order of their day."""
    several = given if isinstance(given, list) else [given]
    if not several:
        raise _wrong(path, f"models[{name!r}] has no price")
    return tuple(sorted((_price(path, name, one) for one in several), key=lambda price: price.since))


def _price(path: Path, name: str, given: Any) -> _Price:
    """Return one price of a model. Raises ConfigurationError that names the member which is wrong."""
    where = f"models[{name!r}]"
    if not isinstance(given, dict):
        raise _wrong(path, f"{where} must be an object, or a list of objects")
    if unknown := sorted(given.keys() - _MEMBERS):
        raise _wrong(path, f"{where}: {unknown[0]!r} is none of {', '.join(sorted(_MEMBERS))}")
    since = _day(path, f"{where}.from", given["from"]) if "from" in given else _BEGINNING
    costs = {kind: _cost(path, f"{where}.{kind}", given[kind]) for kind in _KINDS if kind in given}
    for kind in ("input", "output"):
        if kind not in costs:
            raise _wrong(path, f"{where}.{kind} is missing")
    return _Price(since, **{kind: costs.get(kind, costs["input"]) for kind in _KINDS})


def _cost(path: Path, where: str, value: Any) -> Decimal:
    """Return US dollars for a million tokens. Raises ConfigurationError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MAX_PRICE:
        raise _wrong(path, f"{where} must be a number from 0 to {_MAX_PRICE}")
    # By its text: a price of 0.1 is a tenth, and not the nearest binary fraction.
    return Decimal(str(value))


def _day(path: Path, where: str, value: Any) -> date:
    """Return the day from which a price counts. Raises ConfigurationError."""
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong(path, f"{where} must be a day such as 2026-11-01") from None


def _wrong(path: Path, why: str) -> ConfigurationError:
    """Return the error for a file of prices."""
    return ConfigurationError(
        f"reading the prices of {path}: {why}",
        hint="TELEMETRY_PRICES names a JSON file; docs/configuration.md describes it.",
    )
