"""What runs used of each model, in numbers that add up over runs and can still be priced when they are read.

A cost that a run or its calls report is added as it is; tokens whose cost is to be worked out
from a price list are kept apart from those (`Key.priced_by`). Some prices depend on the length
of one call, so sums are kept apart by it too (`Key.call_size`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.usage import BY_MODEL, COST, REPORTED, REPORTED_COST, RUN_COST, USAGE_KEY, reported_cost_usd
from otel_agent_telemetry.wire import load_object

BY_REPORT: Final = "report"
"""`priced_by` of what runs or their calls report a cost for."""
BY_LIST: Final = "list"
"""`priced_by` of calls of models, whose cost follows from a price list."""
BY_NOTHING: Final = "nothing"
"""`priced_by` of tokens that name no calls of a model, so nobody knows their price."""

TOKENS: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens")
_MAX_COUNT: Final = 10**12
"""A greater number in one run counts as this one, so that the sum over a database fits its columns."""
_TOKENS_A_SIZE: Final = 8_000
_SAME_PRICE_BELOW: Final = 100_000
"""Input tokens of one call below which no price depends on them."""
_NUSD: Final = 1_000_000_000
_MAX_USD: Final = _MAX_COUNT / _NUSD


class Key(NamedTuple):
    """What sums are kept apart by. `call_size`: input tokens of a call in 8,000, 0 below 100,000."""

    model: str
    provider: str
    priced_by: str
    call_size: int


class Sums(NamedTuple):
    """Numbers of one key. A run counts in one key only, so that runs add up; `cost_nusd` is what was reported."""

    runs: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_nusd: int = 0

    def plus(self, more: Sums) -> Sums:
        """Return both added."""
        return Sums(*map(sum, zip(self, more, strict=True)))


Usage = dict[Key, Sums]
_NONE: Final = Sums()


def usage_of(metrics_json: str | None, *, model: str | None, cost_usd: float | None) -> Usage:
    """Return what a run used; model and cost are those of its row. Empty for a run without usage."""
    metrics = load_object(metrics_json or "{}") or {}
    used = metrics.get(USAGE_KEY)
    if not isinstance(used, dict):
        return {}
    found = _by_model(used, run_cost := _cost_of_all(used, cost_usd))
    if not found:
        source = BY_NOTHING if run_cost is None else BY_REPORT
        found = {Key(model or "", "", source, 0): _sums(used)}
    # A run counts under one model only, the one of its row, so that the runs of all models add up.
    main = next((key for key in found if key.model == model), next(iter(found)))
    found[main] = found[main].plus(Sums(runs=1, cost_nusd=run_cost or 0))
    return found


def _cost_of_all(used: Mapping[str, Any], stored: float | None) -> int | None:
    """Return the 10^-9 US dollars known for the whole of a run; None where they are those of its calls, or none."""
    cost = used.get("cost_usd", stored)
    if isinstance(cost, (int, float)) and not isinstance(cost, bool) and 0 <= cost <= _MAX_USD:
        dollars = float(cost)
        if RUN_COST in used or dollars != reported_cost_usd(used):
            return round(dollars * _NUSD)
    return next((amount for name in (RUN_COST, COST) if (amount := _count(used.get(name)))), None)


def _by_model(used: Mapping[str, Any], run_cost: int | None) -> Usage:
    """Return the sums of each model, what its calls reported a cost for apart from the rest."""
    found: defaultdict[Key, Sums] = defaultdict(Sums)
    by_model = used.get(BY_MODEL)
    models = by_model if isinstance(by_model, dict) else {}
    for model, one in sorted(models.items()):
        if not isinstance(one, dict):
            continue
        whole = rest = _sums(one)
        reported = _NONE
        if run_cost is not None:
            reported, rest = whole, _NONE
        elif REPORTED_COST in one:
            reported = _sums(one, REPORTED)._replace(cost_nusd=_count(one[REPORTED_COST]))
            rest = Sums(*(max(every - part, 0) for every, part in zip(whole, reported, strict=True)))
        if any(reported):
            found[_key(model, one, BY_REPORT, reported)] = reported
        # Tokens beyond those of the reported calls are priced only where there are such calls (`pricing`).
        if any(rest) and (rest.calls or not any(reported)):
            found[_key(model, one, BY_LIST, rest)] = rest
    if run_cost is None and (beside := _count(used.get(REPORTED_COST))):
        key = Key("", "", BY_REPORT, 0)
        found[key] = found[key].plus(Sums(cost_nusd=beside))
    return dict(found)


def _key(model: str, used: Mapping[str, Any], priced_by: str, sums: Sums) -> Key:
    """Return what the sums of some calls of a model are kept apart by."""
    provider = used.get("provider")
    length = sums.input_tokens // max(sums.calls, 1)
    size = length // _TOKENS_A_SIZE if length >= _SAME_PRICE_BELOW and priced_by == BY_LIST else 0
    return Key(str(model), provider if isinstance(provider, str) else "", priced_by, size)


def _sums(used: Mapping[str, Any], prefix: str = "") -> Sums:
    """Return calls and tokens of a usage, under names with a prefix."""
    return Sums(0, *(_count(used.get(prefix + name)) for name in ("model_calls", *TOKENS)))


def _count(value: object) -> int:
    """Return a number of tokens, calls or 10^-9 dollars; 0 for anything that is none."""
    return min(value, _MAX_COUNT) if type(value) is int and value > 0 else 0


def typical_call(call_size: int) -> int:
    """Return the input tokens of a call in a class of `Key.call_size`: those that its price is asked for."""
    return call_size * _TOKENS_A_SIZE + _TOKENS_A_SIZE // 2 if call_size else 1_000
