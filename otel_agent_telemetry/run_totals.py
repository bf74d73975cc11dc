"""The columns of a run that repeat what its `metrics_json` holds under `gen_ai`: model, tokens, cost, calls.

`metrics_json` is the one place where the figures are kept; the columns are made from it wherever
a run is stored, so that SQL has them, whichever way the run came. What a caller gives in one of
the columns is therefore moved into `metrics_json` at the door (`folded`). Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from otel_agent_telemetry.columns import MAX_COUNT, TOTAL_COLUMNS, Fields
from otel_agent_telemetry.usage import BY_MODEL, USAGE_KEY, reported_cost_usd
from otel_agent_telemetry.wire import dumps_text, load_object

_MARK: Final = f'"{USAGE_KEY}"'
_TOTALS: Final = frozenset(TOTAL_COLUMNS)
_COUNTS: Final = ("input_tokens", "output_tokens", "model_calls", "tool_calls")
_MODEL: Final = "model"
_COST: Final = "cost_usd"
_ANY_COST: Final = "cost_"
"""What every name of a cost in a usage has in it."""


def with_totals(state: Fields) -> Fields:
    """Return a state whose totals are those of its `metrics_json`; the same object when it has none.

    Totals that the state itself carries are replaced: a row read from a database may hold those of its steps.
    """
    totals = totals_in(state.get("metrics_json"))
    if not state.keys().isdisjoint(_TOTALS):  # the smaller of the two is walked
        state = {name: value for name, value in state.items() if name not in _TOTALS}
    return {**state, **totals} if totals else state


def totals_in(metrics_json: str | None) -> Fields:
    """Return the columns that the text of `metrics_json` gives; what it does not hold, or not as a figure, is left out.

    `model` is the one that was called most, of several the first by name.
    """
    # Most runs call no model; their JSON is not parsed.
    if metrics_json is None or _MARK not in metrics_json:
        return {}
    metrics = load_object(metrics_json)
    used = metrics.get(USAGE_KEY) if metrics is not None else None
    # Exact types: each run that called a model passes here on its way to disk, and `Mapping` costs more than the rest.
    if type(used) is not dict:
        return {}
    totals: Fields = {}
    if model := _model_of(used):
        totals[_MODEL] = model
    for name in _COUNTS:
        count = used.get(name)
        if type(count) is int and 0 < count <= MAX_COUNT:
            totals[name] = count
    if _ANY_COST in metrics_json:
        cost: Any = used.get(_COST, reported_cost_usd(used))
        if type(cost) in (float, int) and 0 <= cost < math.inf:
            totals[_COST] = float(cost)
    return totals


def folded(state: Fields) -> Fields:
    """Return a state with the totals that it carries in its `metrics_json`, where they count before others.

    0 and the empty text are "not known" and change nothing. Returns `state` itself when it carries none.
    """
    if _TOTALS.isdisjoint(state):
        return state
    given = {name: value for name in TOTAL_COLUMNS if (value := state.get(name)) or (name == _COST and value == 0)}
    kept = {name: value for name, value in state.items() if name not in _TOTALS}
    if not given:
        return kept
    text = state.get("metrics_json")
    metrics = {} if text is None else load_object(text)
    if metrics is None:  # JSON, but no object: nothing is lost
        metrics = {"value": text}
    used = metrics.get(USAGE_KEY)
    known = used if isinstance(used, dict) else {}
    if given.items() <= {**known, _MODEL: _model_of(known)}.items():
        return kept
    return {**kept, "metrics_json": dumps_text({**metrics, USAGE_KEY: {**known, **given}})}


def _model_of(used: Mapping[str, Any]) -> str | None:
    """Return the model of a usage: the one that it names, else the one that was called most."""
    model = used.get(_MODEL)
    if type(model) is str and model:
        return model
    by_model = used.get(BY_MODEL)
    if type(by_model) is dict and by_model:
        if len(by_model) == 1:
            return str(next(iter(by_model)))
        return str(min(by_model, key=lambda name: (-_calls(by_model[name]), name)))
    models = used.get("models")
    return next((name for name in models if type(name) is str), None) if type(models) is list else None


def _calls(usage: object) -> int:
    """Return the number of calls in the usage of a model; 0 where it is no number."""
    calls = usage.get("model_calls") if type(usage) is dict else None
    return calls if type(calls) is int else 0
