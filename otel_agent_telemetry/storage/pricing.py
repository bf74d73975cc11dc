"""What runs cost, worked out when a run is read, by the price list of genai-prices: offline, nothing is fetched.

A run's state holds what each of its models used (`usage.BY_MODEL`) and no price. So a
recording process needs no price list, and a state is the same whichever list was installed
where it passed: a cost within it would decide which of two equal states is later. The prices
are those of the run's start time. Without the extra `cost` nothing has a price, and neither
has a model that the list does not know: unknown is not zero.

Owns the only import of `genai_prices`, which takes a good part of a second: at the first run
that has model calls, or in `load_prices`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.storage.own_prices import OwnPrices, read_prices
from otel_agent_telemetry.storage.token_rates import flat_cost
from otel_agent_telemetry.usage import BY_MODEL, COST, REPORTED, REPORTED_COST, RUN_COST, USAGE_KEY
from otel_agent_telemetry.wire import dumps_text, load_object

_log = logging.getLogger(__name__)
_COST_USD: Final = "cost_usd"
_KINDS: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_write_input_tokens": "cache_write_tokens",
}
"""Our name of a kind of tokens → the price list's. Reasoning tokens are output tokens to it, as they are to us."""
_USD: Final = 1_000_000_000
"""Costs are added as 10^-9 US dollars, because a sum of floats depends on their order."""


def load_prices() -> None:
    """Import the price list now instead of at the first run that needs it. Blocks; never raises."""
    cost_of("gpt-4o-mini", {"input_tokens": 1}, datetime.now(UTC))


_own: OwnPrices | None = None
_own_file: tuple[Path, float] | None = None


def use_own_prices(path: Path | None) -> None:
    """Let this process price runs by a file of one's own first; None is no such file.

    Reads it when it is another one, or newer, than the one that is in use. Raises ConfigurationError.
    """
    global _own, _own_file  # noqa: PLW0603 - a process has one configuration of prices
    if path is None:
        _own = _own_file = None
        return
    with contextlib.suppress(OSError):
        if _own_file == (path, path.stat().st_mtime):
            return
    _own = read_prices(path)
    _own_file = path, path.stat().st_mtime


def own_prices_file() -> tuple[Path, float] | None:
    """Return the file of one's own prices that is in use, with its time of change; None without one."""
    return _own_file


def own_price_days() -> set[str]:
    """Return the days from which prices of one's own count, but for those that count from the beginning."""
    return set() if _own is None else _own.days


def price_sources() -> tuple[str, ...]:
    """Return the names of the price lists in use, each with its date or version, in the order in which they count."""
    own = () if _own is None or _own_file is None else (f"{_own_file[0]} of {_own.date}",)
    if _price_list() is None:
        return own
    return (*own, f"genai-prices {version('genai-prices')}")


def cost_of_run(record: RunRecord) -> float | None:
    """Return what a run costs by its reports and the prices in use, whatever cost is stored; None if not known."""
    return with_cost(replace(record, cost_usd=None)).cost_usd


def with_cost(record: RunRecord) -> RunRecord:
    """Return the run with `cost_usd`, in its usage too, and in that of each model with a known price.

    A cost that the run reports itself is kept, and one that is stored. Returns `record` itself when
    there is nothing to add.
    """
    found = _reckon(record.metrics_json, record.start_time, record.cost_usd)
    if found is None:
        return record
    text = record.metrics_json
    if found.shown != found.used:
        text = dumps_text({**found.metrics, USAGE_KEY: dict(sorted(found.shown.items()))})
    # The same object where nothing changes: most reads are of runs without a new price.
    if found.shown == found.used and found.cost == record.cost_usd:
        return record
    return replace(record, metrics_json=text, cost_usd=found.cost)


def cost_by_columns(metrics_json: str | None, start_time: str, cost_usd: float | None) -> float | None:
    """Return the cost that `with_cost` gives a run with these columns, at half the work; None if not known."""
    found = _reckon(metrics_json, start_time, cost_usd)
    return cost_usd if found is None else found.cost


class _Reckoned(NamedTuple):
    """Metrics and usage of a run as they are stored, its usage with costs, and its cost."""

    metrics: dict[str, Any]
    used: dict[str, Any]
    shown: dict[str, Any]
    cost: float | None


def _reckon(text: str | None, start_time: str, stored: float | None) -> _Reckoned | None:
    """Return a run's usage with costs; None where nothing in it has a cost."""
    # Most runs call no model; their JSON is not parsed.
    if text is None or (BY_MODEL not in text and COST not in text):
        return None
    metrics = load_object(text)
    used = metrics.get(USAGE_KEY) if metrics is not None else None
    if metrics is None or not isinstance(used, dict):
        return None
    try:
        shown = _priced(used, datetime.fromtimestamp(parse_iso(start_time) / 1e9, UTC))
    except (ValueError, OverflowError):  # a start time that is none
        return None
    if stored is not None:
        shown[_COST_USD] = used.get(_COST_USD, stored)
    cost = shown.get(_COST_USD)
    cost = float(cost) if isinstance(cost, (int, float)) and not isinstance(cost, bool) else None
    return _Reckoned(metrics, used, shown, cost)


def _priced(used: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """Return a run's usage with costs; `COST`, which earlier versions stored, becomes part of `cost_usd`.

    What spans report counts before the price list.
    """
    shown = {name: value for name, value in used.items() if name not in (COST, REPORTED_COST, RUN_COST)}
    costs = [stored] if isinstance(stored := used.get(COST), int) else []
    summed = [reported] if isinstance(reported := used.get(REPORTED_COST), int) else []
    by_model = used.get(BY_MODEL)
    if isinstance(by_model, dict):
        models = {model: one for model, one in by_model.items() if isinstance(one, dict)}
        known = {model: cost for model, one in models.items() if (cost := _cost_of_model(model, one, at)) is not None}
        priced = {model: {**_shown(models[model]), _COST_USD: cost / _USD} for model, cost in known.items()}
        shown[BY_MODEL] = {**by_model, **priced}
        summed += known.values()
    if _COST_USD in used:
        return shown
    if isinstance(run_cost := used.get(RUN_COST), int):
        return {**shown, _COST_USD: run_cost / _USD}
    costs += [sum(summed)] if summed else []
    if costs:
        # Both where spans of one run came before and after an upgrade: never the sum, they can be of the same calls.
        shown[_COST_USD] = max(costs) / _USD
    return shown


def _shown(of_model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the usage of a model without the members that only reckoning needs."""
    return {name: value for name, value in of_model.items() if not name.startswith(REPORTED)}


def _cost_of_model(model: str, used: Mapping[str, Any], at: datetime) -> int | None:
    """Return what spans reported for a model's calls, and the listed price of those calls for which they did not."""
    reported = used.get(REPORTED_COST)
    if not isinstance(reported, int):
        return cost_of(model, used, at)
    rest = {
        name: max(value - used.get(REPORTED + name, 0), 0) if isinstance(value, int) else value
        for name, value in _shown(used).items()
    }
    return reported + ((cost_of(model, rest, at) or 0) if rest.get("model_calls") else 0)


def cost_of(model: str, used: Mapping[str, Any], at: datetime) -> int | None:
    """Return 10^-9 US dollars for what the calls of one model used at a time; None when that is not known."""
    if _own is not None and (cost := _own.cost_of(model, used, at)) is not None:
        return cost
    prices = _price_list()
    tokens = {theirs: count for ours, theirs in _KINDS.items() if isinstance(count := used.get(ours), int) and count}
    if prices is None or not tokens:
        return None
    calls = used.get("model_calls")
    calls = calls if isinstance(calls, int) and calls > 0 else 1
    provider = used.get("provider")
    for provider_id in (provider, None) if provider else (None,):  # a gateway's name, or a spelling of its own
        with contextlib.suppress(Exception):  # not in the list; or foreign code, asked with anybody's values
            if (flat := flat_cost(prices, model, provider_id, at, tokens, calls=calls)) is not None:
                return round(flat * _USD)
            ask = functools.partial(
                prices.calc_price, model_ref=model, provider_id=provider_id, genai_request_timestamp=at
            )
            total = sum(
                (number * ask(prices.Usage(**one)).total_price for number, one in _spread(tokens, calls)), Decimal()
            )
            return round(total * _USD)
    return None


def _spread(tokens: Mapping[str, int], calls: int) -> Iterator[tuple[int, dict[str, int]]]:
    """Yield (number of equal calls, tokens of each), for tokens spread evenly over the calls.

    Some prices depend on the length of the one call, which a sum does not have. At most one
    group more than there are kinds of tokens.
    """
    # Calls are numbered from 0; between two edges all have the same tokens of every kind.
    edges = sorted({0, calls, *(count % calls for count in tokens.values())})
    for start, end in pairwise(edges):
        one = {kind: count // calls + (start < count % calls) for kind, count in tokens.items()}
        if any(one.values()):
            yield end - start, one


@functools.cache
def _price_list() -> ModuleType | None:
    """Return the price list, None when there is none."""
    try:
        return importlib.import_module("genai_prices")
    except ImportError:
        return None  # the extra is not installed
    except Exception as problem:  # foreign code
        _log.warning("runs have no cost, the price list cannot be loaded: %s", type(problem).__name__)
        return None
