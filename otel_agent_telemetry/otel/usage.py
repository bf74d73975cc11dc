"""What a span says was used: model calls, tool calls, tokens by kind, models, errors. Pure.

Reads all the spellings there are (OpenTelemetry's, old and new; OpenInference; Traceloop;
pydantic-ai). Tokens count on *model calls* alone, because agents, chains and workflows
repeat the sum of what is below them; what a run's own span says of the whole is kept apart
(`own_usage`). Cached tokens are part of the input, reasoning tokens of the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.usage import BY_MODEL, Usage

TOKEN_SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
    "cache_read_input_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "cache_write_input_tokens": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning_output_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
}
"""Our name → the attributes that give it, the first that is there."""

_AGGREGATED: Final = ("gen_ai.usage.", "gen_ai.aggregated_usage.")
_MODELS: Final = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
_MODEL_OPERATIONS: Final = frozenset({"chat", "text_completion", "generate_content", "embeddings"})
_MODEL_KINDS: Final = frozenset({"LLM", "EMBEDDING"})
_LLM_REQUEST: Final = "llm.request.type"
_MOST: Final = 1 << 50
_MAX_MODEL: Final = 200
_PROVIDERS: Final = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
PLAIN_STEP: Final[Usage] = {"steps": 1}


TOKEN_NAMES: Final = frozenset(
    name
    for spellings in TOKEN_SPELLINGS.values()
    for spelling in spellings
    for name in (spelling, spelling.replace(_AGGREGATED[0], _AGGREGATED[1]))
)
"""Attributes that give a number of tokens."""
USAGE_NAMES: Final = TOKEN_NAMES | {
    *(names.GEN_AI_OPERATION, names.OPENINFERENCE_KIND, names.TRACELOOP_KIND, _LLM_REQUEST),
    *_MODELS,
}
"""Attributes without any of which a span tells nothing of what was used."""


def step_usage(view: SpanView) -> Usage:
    """Return what one step adds to its run: counts, and the models it called."""
    attributes = view.attributes
    is_tool = is_tool_call(attributes)
    is_model = not is_tool and is_model_call(attributes)
    if not (is_tool or is_model or view.status == "error"):
        return PLAIN_STEP
    usage: dict[str, Any] = {"steps": 1}
    if view.status == "error":
        usage["child_errors"] = 1
    if is_tool:
        usage["tool_calls"] = 1
    if is_model:
        usage |= {"model_calls": 1, **tokens_of(attributes)}
        if models := _models_of(attributes):
            usage["models"] = models
    return usage


def usage_by_model(view: SpanView, usage: Usage) -> Usage:
    """Return the usage of a step with what its model call used under the model's name too, for its price."""
    if not usage.get("model_calls") or not usage.get("models"):
        return usage
    counted = {name: count for name, count in usage.items() if name.endswith("_tokens") or name == "model_calls"}
    named = (names.text_attribute(view.attributes, key) for key in _PROVIDERS)
    if (provider := next(filter(None, named), None)) is not None:
        counted["provider"] = provider
    return {**usage, BY_MODEL: {usage["models"][0]: counted}}


def own_usage(view: SpanView) -> dict[str, Any]:
    """Return what a run's own span reports of the whole: its tokens and models; empty where it reports none."""
    renamed = {key.replace(_AGGREGATED[1], _AGGREGATED[0]): value for key, value in view.attributes.items()}
    tokens = tokens_of({**renamed, **view.attributes})
    models = _models_of(view.attributes)
    return {**tokens, "models": models} if tokens and models else tokens


def is_model_call(attributes: Mapping[str, Any]) -> bool:
    """Whether a span is one request to a model, by any of the conventions."""
    operation = names.text_attribute(attributes, names.GEN_AI_OPERATION)
    if operation is not None:
        return operation in _MODEL_OPERATIONS
    kind = names.text_attribute(attributes, names.OPENINFERENCE_KIND)
    if kind is not None:
        return kind in _MODEL_KINDS
    return _LLM_REQUEST in attributes


def is_tool_call(attributes: Mapping[str, Any]) -> bool:
    """Whether a span is one call of a tool, by any of the conventions."""
    return (
        attributes.get(names.GEN_AI_OPERATION) == "execute_tool"
        or attributes.get(names.OPENINFERENCE_KIND) == "TOOL"
        or attributes.get(names.TRACELOOP_KIND) == "tool"
    )


def tokens_of(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens by kind, for the kinds that the attributes name."""
    found = {}
    for name, spellings in TOKEN_SPELLINGS.items():
        values = (count for key in spellings if (count := _count(attributes.get(key))) is not None)
        if (count := next(values, None)) is not None:
            found[name] = count
    return found


def _count(value: Any) -> int | None:
    """Return a number of tokens; None for what cannot be one: attributes come from anywhere."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value <= _MOST else None


def _models_of(attributes: Mapping[str, Any]) -> list[str]:
    values = (attributes.get(key) for key in _MODELS)
    return next(([value[:_MAX_MODEL]] for value in values if isinstance(value, str) and value), [])
