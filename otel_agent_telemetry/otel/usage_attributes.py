"""What the attributes of one span give: tokens by kind, the model, its provider, a cost. Pure.

The words for these are those of the table (`conventions`); of several spellings of one figure the first that gives a
number counts. In what is returned cached tokens are part of the input, reasoning tokens of the output, whatever the
sender does. What a span is for its run, a call or a sum of calls, is decided in `usage`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.wire import load_object

_MOST: Final = 1 << 50
_MAX_DIGITS: Final = 20
_MAX_MODEL: Final = 200
_NUSD: Final = 1_000_000_000

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


FIGURE_OF: Final = {
    spelling: (figure, rank)
    for figure, spellings in names.TOKEN_SPELLINGS.items()
    for spelling, rank in _ranks(spellings).items()
}
"""Attribute → the figure that it gives, and how many spellings of that figure count before it."""
_MODELS: Final = _ranks(names.MODELS)
_PROVIDERS: Final = _ranks(names.PROVIDERS)
_COSTS: Final = _ranks(names.COSTS)

TOKEN_NAMES: Final = frozenset(
    name
    for spelling in (*FIGURE_OF, *names.TOKEN_OBJECTS)
    for name in (spelling, *(spelling.replace(part, whole) for whole, part in names.TOTALS.items()))
)
"""Attributes that give a number of tokens."""
COST_NAMES: Final = frozenset({*_COSTS, *names.COST_PARTS, *names.COST_OBJECTS})
"""Attributes that give a cost."""
MODEL_NAMES: Final = frozenset({*names.MODELS, *names.MODELS_BESIDE, *names.MODEL_OBJECTS})
"""Attributes that give a model."""
USAGE_NAMES: Final = frozenset({*TOKEN_NAMES, *MODEL_NAMES, *names.KINDS})
"""Attributes without any of which a span does not say that anything was used."""


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


def provider_of(attributes: Mapping[str, Any]) -> str | None:
    """Return the provider that a span names, whose price a model has; None for none."""
    return _first_text(attributes, _PROVIDERS)


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
    for spelling in FIGURE_OF.keys() & attributes.keys():
        figure, rank = FIGURE_OF[spelling]
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
    leaves_out = sender is not None and sender.cache_beside_input and not _gives_both(found, cached, attributes)
    if cached and (_is_beside(found, cached) or leaves_out):
        found[_INPUT] = found.get(_INPUT, 0) + cached
    if reasoning and (reasoning > found.get(_OUTPUT, 0) or (sender is not None and sender.reasoning_beside_output)):
        found[_OUTPUT] = found.get(_OUTPUT, 0) + reasoning


def _gives_both(found: Mapping[str, int], cached: int, attributes: Mapping[str, Any]) -> bool:
    """Return whether the input that was found includes the cached tokens, as another name gives it without them."""
    spellings = (name for name in FIGURE_OF.keys() & attributes.keys() if FIGURE_OF[name][0] == _INPUT)
    return found.get(_INPUT, 0) - cached in {_count(attributes[name]) for name in spellings}


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
