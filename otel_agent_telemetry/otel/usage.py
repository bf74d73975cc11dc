"""What a span says was used: model calls, tool calls, tokens by kind, models, costs, errors. Pure.

The words for it are those of the table (`conventions`). Tokens count on *model calls* alone,
because agents, chains and workflows repeat the sum of what is below them; what a run's own
span says of the whole is kept apart (`own_usage`). In what is returned cached tokens are part
of the input, reasoning tokens of the output, whatever the sender does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.conventions.convention import Kind
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.secret_patterns import mask_text
from otel_agent_telemetry.usage import (
    BY_MODEL,
    LAST_CALL,
    LAST_CALL_DECIDES,
    MODEL_INSIDE,
    NO_MODEL,
    REPORTED,
    REPORTED_COST,
    RUN_COST,
    SERVED,
    SO_FAR,
    SUMS_UP,
    TOOL_CALLS,
    Usage,
    last_call,
)
from otel_agent_telemetry.wire import load_object

_MOST: Final = 1 << 50
_MAX_DIGITS: Final = 20
_MAX_MODEL: Final = 200
_MAX_ERROR: Final = 500
_NUSD: Final = 1_000_000_000
PLAIN_STEP: Final[Usage] = {"steps": 1}
_STEPS: Final[Mapping[tuple[str | None, bool], Usage]] = {
    (None, False): PLAIN_STEP,
    (None, True): {"steps": 1, "child_errors": 1},
    **{(calls, False): {"steps": 1, calls: 1} for calls in (TOOL_CALLS, SERVED)},
    **{(calls, True): {"steps": 1, "child_errors": 1, calls: 1} for calls in (TOOL_CALLS, SERVED)},
}
"""(as what it counts besides, whether it failed) → the step's usage."""

_INPUT, _OUTPUT, _TOTAL = "input_tokens", "output_tokens", "total_tokens"
_CACHED: Final = ("cache_read_input_tokens", "cache_write_input_tokens")
_REASONING: Final = "reasoning_output_tokens"
_MODALITIES: Final = ("text", "image", "audio", "video")
_PARTS: Final = {
    whole: tuple(f"{modality}_{whole}" for modality in _MODALITIES)
    for whole in (_INPUT, _OUTPUT, "cache_read_input_tokens")
}
"""A figure → those whose sum it is where a span has only them."""


def _ranks(words: Iterable[str]) -> dict[str, int]:
    """Return word → its place; of several spellings of one figure the first in order counts."""
    return {word: rank for rank, word in enumerate(words)}


_FIGURE_OF: Final = {
    spelling: (figure, rank)
    for figure, spellings in names.TOKEN_SPELLINGS.items()
    for spelling, rank in _ranks(spellings).items()
}
_MODELS: Final = _ranks(names.MODELS)
_PROVIDERS: Final = _ranks(names.PROVIDERS)
_COSTS: Final = _ranks(names.COSTS)

TOKEN_NAMES: Final = frozenset(
    name
    for spelling in (*_FIGURE_OF, *names.TOKEN_OBJECTS)
    for name in (spelling, *(spelling.replace(part, whole) for whole, part in names.TOTALS.items()))
)
"""Attributes that give a number of tokens."""
COST_NAMES: Final = frozenset({*_COSTS, *names.COST_PARTS, *names.COST_OBJECTS})
"""Attributes that give a cost."""
MODEL_NAMES: Final = frozenset({*names.MODELS, *names.MODELS_BESIDE, *names.MODEL_OBJECTS})
"""Attributes that give a model."""
USAGE_NAMES: Final = frozenset({*TOKEN_NAMES, *MODEL_NAMES, *names.KINDS})
"""Attributes without any of which a span does not say that anything was used."""


def step_usage(view: SpanView) -> Usage:
    """Return what one step adds to its run: counts, and the models it called."""
    is_error = view.status == "error"
    if USAGE_NAMES.isdisjoint(view.attributes):
        return usage_of_kind(None, is_error=is_error)
    kind = call_kind(view.attributes, view.name)
    usage = usage_of_kind(kind, is_error=is_error, is_served=view.kind == "server")
    if kind == names.MODEL:
        return {**usage, **_model_call(view)}
    if kind is None and (more := _of_no_call(view)):
        return {**usage, **more}
    return usage


def _of_no_call(view: SpanView) -> dict[str, Any]:
    """Return what a span that is no call says of calls: tokens without a model, or the model of those inside it."""
    if (model := model_of(view.attributes)) is not None:
        return {MODEL_INSIDE: model}
    tokens = tokens_of(view.attributes, view.resource)
    if not any(tokens.values()) or names.kind_of(view.attributes, view.name) is not None:
        return {}
    return {**tokens, BY_MODEL: {NO_MODEL: {"model_calls": 1, **tokens}}}


def usage_of_kind(kind: Kind | None, *, is_error: bool, is_served: bool = False) -> Usage:
    """Return what a step of a kind adds to its run besides what a model call used; the same object for the same.

    `is_served`: whether the span is a server's, of a call that its caller may report too.
    """
    return _STEPS[(SERVED if is_served else TOOL_CALLS) if kind == names.TOOL else None, is_error]


def _model_call(view: SpanView) -> dict[str, Any]:
    """Return what a span that is a call of a model used."""
    # A call that a sender reports in several spans is one call: its tokens count in each, the call once.
    continues = any(view.attributes.get(name) == value for name, value in names.CONTINUATIONS.items())
    usage: dict[str, Any] = {"model_calls": 0 if continues else 1, **tokens_of(view.attributes, view.resource)}
    if model := model_of(view.attributes):
        usage["models"] = [model]
    if (cost := reported_cost(view.attributes)) is not None:
        usage[REPORTED_COST] = cost
    if view.end_ns is not None and last_call_decides(view):
        failure = (error_of(view) or "the last model call failed") if view.status == "error" else None
        usage[LAST_CALL] = last_call(ended_at=iso_utc(view.end_ns), failure=failure)
    return usage


def last_call_decides(view: SpanView) -> bool:
    """Return whether the sender of a span leaves the status of a run to the run's last model call."""
    sender = names.sender_of(view.attributes, view.resource)
    return sender is not None and sender.last_model_event_decides


def error_of(view: SpanView) -> str:
    """Return the error that a span's status names, in one line, secrets masked; empty where it names none."""
    text = view.status_message or str(view.attributes.get(names.ERROR_TYPE) or "")
    return mask_text(text.strip().partition("\n")[0][:_MAX_ERROR])


def usage_by_model(view: SpanView, usage: Usage) -> Usage:
    """Return the usage of a step with what its model call used under the model's name too, for its price."""
    if "model_calls" not in usage or not usage.get("models"):
        return usage
    counted = {name: count for name, count in usage.items() if name.endswith("_tokens") or name == "model_calls"}
    whole = {name: value for name, value in usage.items() if name != REPORTED_COST}
    if REPORTED_COST in usage:
        counted |= {REPORTED_COST: usage[REPORTED_COST], **{REPORTED + name: count for name, count in counted.items()}}
    if (provider := _first_text(view.attributes, _PROVIDERS)) is not None:
        counted["provider"] = provider
    return {**whole, BY_MODEL: {usage["models"][0]: counted}}


def own_usage(view: SpanView) -> dict[str, Any]:
    """Return what a run's own span reports of the whole: its tokens, models and cost; empty where it reports none.

    A run that is itself a model or tool call is one.
    """
    kind = call_kind(view.attributes, view.name)
    if kind == names.MODEL:
        return dict(usage_by_model(view, _model_call(view)))
    if kind == names.TOOL:
        return {TOOL_CALLS: 1}
    used: dict[str, Any] = tokens_of({**_totals_renamed(view.attributes), **view.attributes}, view.resource)
    if model := model_of(view.attributes):
        used |= {"models": [model]} if used else {MODEL_INSIDE: model}
    if (cost := reported_cost(view.attributes)) is not None:
        used[RUN_COST] = cost
    has_status = view.status != "unset" or names.STATUS in view.attributes
    if not has_status and view.end_ns is not None and last_call_decides(view):
        used[LAST_CALL_DECIDES] = 1
    return used


def _totals_renamed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a whole under the names that a call's have."""
    return {
        part + key[len(whole) :]: value
        for whole, part in names.TOTALS.items()
        for key, value in attributes.items()
        if key.startswith(whole)
    }


def call_kind(attributes: Mapping[str, Any], span_name: str) -> Kind | None:
    """Return `model` or `tool` for a span that is one call of one; None for any other.

    What carries tokens and has a model is a model call whatever it calls itself, unless it is an
    agent, a chain or a tool. The model may be that of a span above it: `usage.folded` sees that.
    """
    kind = names.kind_of(attributes, span_name)
    if kind is None and model_of(attributes) and any(tokens_of(attributes).values()):
        return names.MODEL
    return kind if kind in (names.MODEL, names.TOOL) else None


def model_of(attributes: Mapping[str, Any]) -> str | None:
    """Return the model that a span names, the answering one before the one that was asked for."""
    model = _first_text(attributes, _MODELS, names.NO_MODELS)
    if model is None:
        for key, values in names.MODELS_BESIDE.items():
            if key in attributes:
                model = names.text_attribute(attributes, values.get(str(attributes[key]), ""))
        for key, member in names.MODEL_OBJECTS.items():
            if key in attributes:
                model = names.text_attribute(_object(attributes[key]), member) or model
    return model.strip('"')[:_MAX_MODEL] or None if model else None  # some values are JSON


def tokens_of(attributes: Mapping[str, Any], resource: Mapping[str, Any] = names.NONE) -> dict[str, int]:
    """Return the tokens by kind, for the kinds that the attributes name.

    `total_tokens` is there only where neither input nor output is known.
    """
    found = _named_tokens(attributes)
    if not found:
        return {}
    for whole, parts in _PARTS.items():
        if whole not in found and (sum_of_parts := sum(found.get(part, 0) for part in parts)):
            found[whole] = sum_of_parts
    _include_what_is_beside(found, attributes, resource)
    _resolve_total(found)
    return {name: found[name] for name in names.TOKEN_SPELLINGS if name in found}


def _named_tokens(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Return each figure by the first spelling that gives one."""
    found: dict[str, int] = {}
    ranks: dict[str, int] = {}
    for spelling in _FIGURE_OF.keys() & attributes.keys():
        figure, rank = _FIGURE_OF[spelling]
        if names.ONLY_BESIDE.get(spelling, spelling) not in attributes or rank > ranks.get(figure, rank):
            continue
        if (count := _count(attributes[spelling])) is not None:
            found[figure], ranks[figure] = count, rank
    for name in names.TOKEN_OBJECTS.keys() & attributes.keys():
        members = _object(attributes[name])
        for member, figure in names.TOKEN_OBJECTS[name].items():
            if figure not in found and (count := _count(_member(members, member))) is not None:
                found[figure] = count
    return found


def _include_what_is_beside(found: dict[str, int], attributes: Mapping[str, Any], resource: Mapping[str, Any]) -> None:
    """Add cached tokens to the input, and reasoning tokens to the output, where the sender leaves them out."""
    cached = sum(found.get(name, 0) for name in _CACHED)
    reasoning = found.get(_REASONING, 0)
    if not (cached or reasoning):
        return
    sender = names.sender_of(attributes, resource)
    if cached and (_is_beside(found, cached) or (sender is not None and sender.cache_beside_input)):
        found[_INPUT] = found.get(_INPUT, 0) + cached
    if reasoning and (reasoning > found.get(_OUTPUT, 0) or (sender is not None and sender.reasoning_beside_output)):
        found[_OUTPUT] = found.get(_OUTPUT, 0) + reasoning


def _is_beside(found: Mapping[str, int], cached: int) -> bool:
    """Return whether cached tokens are no part of the input, by the figures themselves."""
    given = found.get(_INPUT, 0)
    total = found.get(_TOTAL, 0)
    return cached > given or (_INPUT in found and total >= given + cached + found.get(_OUTPUT, 0) > cached)


def _resolve_total(found: dict[str, int]) -> None:
    """Let a total give the one figure that is missing; keep it only where both are."""
    if _TOTAL not in found or (_INPUT not in found and _OUTPUT not in found):
        return
    rest = found.pop(_TOTAL) - found.get(_INPUT, 0) - found.get(_OUTPUT, 0)
    for name in (_INPUT, _OUTPUT):
        if name not in found and rest > 0:
            found[name] = rest


def reported_cost(attributes: Mapping[str, Any]) -> int | None:
    """Return the cost that a span reports, in 10^-9 US dollars; None when it reports none."""
    if COST_NAMES.isdisjoint(attributes):
        return None
    for name in sorted(_COSTS.keys() & attributes.keys(), key=_COSTS.__getitem__):
        if cost := _dollars(attributes[name]):  # 0 is what senders write that know no price
            return cost
    parts = [_dollars(attributes[name]) for name in names.COST_PARTS if name in attributes]
    if cost := sum(part for part in parts if part is not None):
        return cost
    members = ((name, names.COST_OBJECTS[name]) for name in names.COST_OBJECTS.keys() & attributes.keys())
    return next(
        (cost for name, member in members if (cost := _dollars(_member(_object(attributes[name]), member)))), None
    )


def _dollars(value: Any) -> int | None:
    """Return an amount in US dollars as 10^-9 of it; None for what cannot be one."""
    if isinstance(value, str):
        try:
            # Cut: converting a text of a megabyte to a number takes seconds.
            value = float(value[:_MAX_DIGITS])
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MOST / _NUSD:
        return None
    return round(value * _NUSD)


def _count(value: Any) -> int | None:
    """Return a number of tokens; None for what cannot be one: attributes come from anywhere."""
    if isinstance(value, str):  # some senders send all figures as text
        value = int(value) if value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value <= _MOST else None


def _object(value: Any) -> Mapping[str, Any]:
    """Return an attribute that is an object, or JSON text of one; empty for anything else."""
    if isinstance(value, Mapping):
        return value
    return (load_object(value) or {}) if isinstance(value, str) else {}


def _member(members: Mapping[str, Any], path: str) -> Any:
    """Return a member of an object, `a.b` for one of an object inside it; None where there is none."""
    name, _, rest = path.partition(".")
    value = members.get(name)
    return value if not rest else _member(value, rest) if isinstance(value, Mapping) else None


def _first_text(
    attributes: Mapping[str, Any], ranks: Mapping[str, int], words_for_none: Collection[str] = ()
) -> str | None:
    """Return the first of some attributes that is a text, and none of the words for nothing."""
    found = ranks.keys() & attributes.keys()
    ordered = sorted(found, key=ranks.__getitem__) if len(found) > 1 else found
    texts = (value for name in ordered if isinstance(value := attributes[name], str) and value)
    return next((text for text in texts if text.lower() not in words_for_none), None)


def _with_sum_apart(view: SpanView, usage: Usage) -> Usage:
    """Return a model call's usage with its tokens apart, where its sender adds them to those of the next call."""
    sender = names.sender_of(view.attributes, view.resource)
    if sender is None or not sender.sums_after:
        return usage
    provider = (_first_text(view.attributes, _PROVIDERS) or "").lower()
    reasons = next(words for name, words in sender.sums_after if name in (provider, "*"))
    ended = str(view.attributes.get(names.FINISH_REASONS, "")).lower()
    tokens = {name: count for name, count in usage.items() if name.endswith("_tokens")}
    if not tokens:
        return usage
    if not any(reason in ended for reason in reasons):
        return {**usage, SUMS_UP: 1}
    model = next(iter(usage.get("models", ())), NO_MODEL)
    calls = {name: value for name, value in usage.items() if name not in tokens}
    if BY_MODEL in usage:
        of_model = usage[BY_MODEL][model]
        calls[BY_MODEL] = {model: {name: value for name, value in of_model.items() if name not in tokens}}
    return {**calls, SO_FAR: {model: tokens}}


def usage_of_step(view: SpanView) -> Usage:
    """Return what a step itself reports: its model call, or, for an agent that is a step, the sum that it repeats.

    Returns the object `PLAIN_STEP` for a step that used nothing.
    """
    usage = step_usage(view)
    if "model_calls" in usage:
        return _with_sum_apart(view, usage_by_model(view, usage))
    if TOOL_CALLS not in usage and names.is_agent_work(view.attributes, view.name) and (whole := own_usage(view)):
        if RUN_COST in whole:
            whole[REPORTED_COST] = whole.pop(RUN_COST)
        return {**usage, **whole}
    return usage
