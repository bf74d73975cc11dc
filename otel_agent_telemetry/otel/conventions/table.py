"""The rows merged: one constant for each thing that a rule looks up. Of several rows the first counts."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from functools import cache
from re import Pattern
from typing import Any, Final

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.otel.conventions import ours
from otel_agent_telemetry.otel.conventions.coding_agents import CODING_AGENTS
from otel_agent_telemetry.otel.conventions.convention import AGENT, CHAIN, MODEL, TOOL, Convention, Kind, Sender
from otel_agent_telemetry.otel.conventions.frameworks import FRAMEWORKS
from otel_agent_telemetry.otel.conventions.standards import STANDARDS
from otel_agent_telemetry.status import CANCELLED, FAILED, TIMEOUT, RunStatus

CONVENTIONS: Final[tuple[Convention, ...]] = (*STANDARDS, *FRAMEWORKS, *CODING_AGENTS)


def _merged(field: str) -> dict[str, Any]:
    """Return a mapping whose members are those of all rows: tuples are joined, objects united."""
    merged: dict[str, Any] = {}
    for row in CONVENTIONS:
        for name, more in getattr(row, field).items():
            known = merged.get(name)
            if isinstance(more, tuple):
                merged[name] = (*(known or ()), *(word for word in more if word not in (known or ())))
            elif isinstance(more, Mapping):
                merged[name] = {**more, **(known or {})}
            else:
                merged.setdefault(name, more)
    return merged


def _joined(field: str) -> tuple[Any, ...]:
    """Return the words of all rows in their order, each once."""
    return tuple(dict.fromkeys(word for row in CONVENTIONS for word in getattr(row, field)))


def _lower(words: Iterable[str]) -> frozenset[str]:
    """Return words in lower case, as attributes are compared."""
    return frozenset(word.lower() for word in words)


KINDS: Final[Mapping[str, Mapping[str, Kind]]] = _merged("kinds")
"""Attribute → its values in lower case → what the span is."""
_ENDINGS: Final = {
    name: ends
    for name, kinds in KINDS.items()
    if (ends := [(word.removeprefix("*"), kind) for word, kind in kinds.items() if word.startswith("*")])
}
AGENT_KINDS: Final = frozenset(name for name, kinds in KINDS.items() if AGENT in kinds.values())
"""Attributes by whose values a span is an agent's invocation."""
MISNAMED: Final[Mapping[str, Mapping[Kind, tuple[str, ...]]]] = _merged("misnamed")
"""Attribute → kind → patterns of names of spans that the attribute calls so, and that are chains."""
PENDING: Final[Mapping[str, Mapping[str, str]]] = _merged("pending")
"""Attribute → its value on spans that announce another one → the attribute with the parent of the announced span."""
CONTINUATIONS: Final[Mapping[str, str]] = _merged("continuations")
"""Attribute → its value on spans that repeat the tokens of a call that is counted already."""
ECHOES: Final[Mapping[str, str]] = _merged("echoes")
"""Attribute → its value on spans that repeat what another span beside them reports: nothing of them counts."""
SERVED: Final = frozenset(_joined("served"))
"""Attributes of spans that report calls of tools for a protocol, beside their callers."""
NAMED_BY_SPAN: Final[tuple[str, ...]] = _joined("named_by_span")
"""Attributes of kinds whose agents are called as their spans are."""

TOKEN_SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = _merged("tokens")
"""Our name → the attributes that give it, the first that is there."""
TOTALS: Final[Mapping[str, str]] = _merged("totals")
"""Beginning of the names of a whole's figures → beginning of the names of one call's."""
TOKEN_OBJECTS: Final[Mapping[str, Mapping[str, str]]] = _merged("token_objects")
"""Attribute with an object, or the JSON text of one → its member → our name of the figure."""
ONLY_BESIDE: Final[Mapping[str, str]] = {
    spelling: row.only_beside
    for row in CONVENTIONS
    if row.only_beside is not None
    for spellings in row.tokens.values()
    for spelling in spellings
}
"""Spelling of a number of tokens → the attribute without which it is not read."""
COSTS: Final[tuple[str, ...]] = _joined("costs")
"""Attributes that give a call's cost in US dollars."""
COST_PARTS: Final[tuple[str, ...]] = _joined("cost_parts")
"""Attributes whose sum is the cost where none of `COSTS` is there."""
COST_OBJECTS: Final[Mapping[str, str]] = _merged("cost_objects")
MODELS: Final[tuple[str, ...]] = _joined("models")
"""Attributes that give the model; the answer's stands before the request's, which may be an alias."""
MODELS_BESIDE: Final[Mapping[str, Mapping[str, str]]] = _merged("models_beside")
MODEL_OBJECTS: Final[Mapping[str, str]] = _merged("model_objects")
NO_MODELS: Final = frozenset(_joined("no_models"))
"""Words that senders write in place of a model that they do not know, in lower case."""
PROVIDERS: Final[tuple[str, ...]] = _joined("providers")
SENDERS: Final[tuple[Sender, ...]] = _joined("senders")
"""Programs whose figures or endings need a rule of their own."""

AGENT_NAMES: Final[tuple[str, ...]] = (ours.AGENT_NAME, *_joined("agent_names"))
"""Attributes that give the agent's name."""
AGENT_OBJECTS: Final[Mapping[str, str]] = _merged("agent_objects")
AGENT_PREFIXES: Final[tuple[str, ...]] = _joined("agent_prefixes")
"""Words that stand before an agent's name in the name of a span: `invoke_agent triage`."""
AGENT_VERBS: Final[Mapping[str, tuple[str, ...]]] = _merged("agent_verbs")
JOB_TYPES: Final[tuple[str, ...]] = _joined("job_types")
"""Attributes that give `job_type`, what the agent does."""
AGENT_NAMES_BESIDE: Final[Mapping[str, Mapping[str, str]]] = _merged("agent_names_beside")

_EVENT_NAMES: Final[tuple[str, ...]] = _joined("event_names")
_TIMEOUTS: Final[tuple[str, ...]] = _joined("timeouts")
_CANCELLATIONS: Final[tuple[str, ...]] = _joined("cancellations")
_TIMEOUT_MESSAGES: Final[tuple[str, ...]] = _joined("timeout_messages")
_CANCELLATION_MESSAGES: Final[tuple[str, ...]] = _joined("cancellation_messages")

EVENT_NAME: Final = "event.name"
ERROR_TYPE: Final = "error.type"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACK: Final = "exception.stacktrace"
SERVICE_NAME: Final = "service.name"
DEFAULT_SERVICE: Final = "unknown_service"
CONVENTIONAL_COLUMNS: Final[Mapping[str, str]] = {
    name: column for name, column in _merged("columns").items() if column in COLUMNS
}
"""Attribute of a span or its resource → the column that it gives; for a column, the first attribute that is there."""
USER_IDS: Final[tuple[str, ...]] = _joined("user_ids")
"""Attributes that name a person: read for `user_id` only where a setting asks for it."""

CONTENT: Final = _lower(_joined("content"))
"""Names of content; these and the following are in lower case, as they are compared."""
CONTENT_NAMESPACES: Final = _lower(_joined("content_namespaces"))
"""Names of content with all that are below them."""
KNOWN: Final = _lower(
    (*_joined("known"), *KINDS, *AGENT_NAMES, *JOB_TYPES, *MODELS, *PROVIDERS, *CONVENTIONAL_COLUMNS, *TOKEN_OBJECTS)
) - (CONTENT | CONTENT_NAMESPACES)
"""Names whose texts are no content, whatever they look like."""
KNOWN_NAMESPACES: Final = _lower(_joined("known_namespaces"))
"""Namespaces of a convention: a text in one is no content unless its name says so."""
FIGURES: Final = _lower(_joined("figures"))
"""Namespaces that hold figures only: never content, whatever the last word of a name is."""
URLS: Final = _lower(_joined("urls"))
"""Names of URLs, which are kept without their query."""
PROMPT_SPANS: Final = frozenset(_joined("prompt_spans"))
"""Names of coding agents' spans that are runs, although no attribute says so."""

CONVENTION_EVENTS: Final = _lower(_joined("events"))
"""Names, and namespaces of names, of events that a convention defines; others are the application's own."""

VALUES_DECIDE: Final = frozenset({*NAMED_BY_SPAN, *AGENT_VERBS, *AGENT_OBJECTS, ours.METRICS, ours.PART_OF})
"""Names whose values decide what a run is called or made of: spans with one go the long way."""

_SENDER_OF: Final = {
    name: {value: sender for sender in SENDERS for marked, value in sender.marks if marked == name}
    for name in dict.fromkeys(name for sender in SENDERS for name, _ in sender.marks)
}


SENDER_MARKS: Final = frozenset(_SENDER_OF)
"""Attributes whose value may mark a sender with rules of its own."""


@cache
def _pattern(patterns: tuple[str, ...]) -> Pattern[str]:
    """Return one expression for some patterns with `*`; compiled once."""
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


def _is_any_of(name: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a name meets one of some patterns."""
    return bool(patterns) and _pattern(patterns).match(name) is not None


def kind_of(attributes: Mapping[str, Any], span_name: str) -> Kind | None:
    """Return what a span's attributes call it; None when the table has no word for what they say.

    The first attribute counts, but what one calls an agent and another a chain is a chain, and
    what one calls a chain and another a call is the call.
    """
    found: Kind | None = None
    for name in KINDS:
        if name not in attributes or (kind := _kind_in(name, attributes[name])) is None:
            continue
        if name in MISNAMED and _is_any_of(span_name, MISNAMED[name].get(kind, ())):
            kind = CHAIN
        if kind in (MODEL, TOOL) and found != AGENT:
            return kind
        if kind == CHAIN or found is None:
            found = kind
    return found


def _kind_in(name: str, value: object) -> Kind | None:
    """Return the kind that the value of one attribute names; None for none."""
    if not isinstance(value, str):
        return None
    kinds, word = KINDS[name], value.lower().strip('"')  # MLflow's values are JSON
    if word in kinds:
        return kinds[word]
    return next((kind for end, kind in _ENDINGS.get(name, ()) if word.endswith(end)), None)


def marks_sender(source: Mapping[str, Any]) -> bool:
    """Return whether attributes, of a span or of its resource, mark a sender with rules of its own."""
    for name in _SENDER_OF.keys() & source.keys():
        value = source[name]
        if isinstance(value, str) and not _SENDER_OF[name].keys().isdisjoint((value.lower(), "*")):
            return True
    return False


def sender_of(attributes: Mapping[str, Any], resource: Mapping[str, Any]) -> Sender | None:
    """Return the sender with rules of its own that a span comes from, None for any other."""
    for source in (resource, attributes):
        for name in _SENDER_OF.keys() & source.keys():
            value, senders = source[name], _SENDER_OF[name]
            if isinstance(value, str) and (sender := senders.get(value.lower()) or senders.get("*")) is not None:
                return sender if _provides(attributes, sender.providers) else None
    return None


def _provides(attributes: Mapping[str, Any], providers: tuple[str, ...]) -> bool:
    """Return whether a span is of one of these providers; any span where none is named."""
    return not providers or any(attributes.get(name) in providers for name in PROVIDERS)


def exception_status(kind: str, message: str) -> RunStatus:
    """Return the status of a run that ended by an exception, or an error code, of this type and with this message."""
    kind, message = kind.strip().lower(), message.strip().lower()
    if kind.endswith(_TIMEOUTS) or message.endswith(_TIMEOUT_MESSAGES):  # .NET cancels the task of a request in time
        return TIMEOUT
    is_cancelled = kind.endswith(_CANCELLATIONS) or message.endswith(_CANCELLATION_MESSAGES)
    return CANCELLED if is_cancelled else FAILED


def event_name_of(name: str, attributes: Mapping[str, Any]) -> str:
    """Return an event's name: its attribute for it where the name is only a place in the source."""
    given = attributes.get(EVENT_NAME)
    return given if isinstance(given, str) and given and (not name or _is_any_of(name, _EVENT_NAMES)) else name


def is_agent_work(attributes: Mapping[str, Any], span_name: str) -> bool:
    """Return whether a span is an agent's doing at all: an invocation, or a chain that runs one."""
    return kind_of(attributes, span_name) in (AGENT, CHAIN)


def is_agent_invocation(attributes: Mapping[str, Any], span_name: str) -> bool:
    """Return whether a span is an agent's or workflow's invocation by any of the conventions."""
    return kind_of(attributes, span_name) == AGENT


def text_attribute(attributes: Mapping[str, Any], key: str) -> str | None:
    """Return a text attribute; None for what is no text: attributes come from anywhere."""
    value = attributes.get(key)
    return value if isinstance(value, str) else None


def is_marked(attributes: Mapping[str, Any]) -> bool:
    """Return whether a span asks to be a run by an `agent.run.*` attribute."""
    return ours.PART_OF not in attributes and any(key.startswith(ours.PREFIX) for key in attributes)
