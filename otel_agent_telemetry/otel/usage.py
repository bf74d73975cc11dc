"""What a span says was used: model calls, tool calls, tokens by kind, models, costs, errors. Pure.

The words for it are those of the table (`conventions`). Tokens count on *model calls* alone,
because agents, chains and workflows repeat the sum of what is below them; what a run's own
span says of the whole is kept apart (`own_usage`). In what is returned cached tokens are part
of the input, reasoning tokens of the output, whatever the sender does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.conventions.convention import Kind
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.otel.usage_attributes import USAGE_NAMES, model_of, provider_of, reported_cost, tokens_of
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

_MAX_ERROR: Final = 500
PLAIN_STEP: Final[Usage] = {"steps": 1}
_STEPS: Final[Mapping[tuple[str | None, bool], Usage]] = {
    (None, False): PLAIN_STEP,
    (None, True): {"steps": 1, "child_errors": 1},
    **{(calls, False): {"steps": 1, calls: 1} for calls in (TOOL_CALLS, SERVED)},
    **{(calls, True): {"steps": 1, "child_errors": 1, calls: 1} for calls in (TOOL_CALLS, SERVED)},
}
"""(as what it counts besides, whether it failed) → the step's usage."""


def step_usage(view: SpanView) -> Usage:
    """Return what one step adds to its run: counts, and the models it called."""
    is_error = view.status == "error"
    if USAGE_NAMES.isdisjoint(view.attributes):
        return usage_of_kind(None, is_error=is_error)
    if any(view.attributes.get(name) == value for name, value in names.ECHOES.items()):
        return usage_of_kind(None, is_error=is_error)
    kind = call_kind(view.attributes, view.name)
    usage = usage_of_kind(kind, is_error=is_error, attributes=view.attributes)
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


def usage_of_kind(kind: Kind | None, *, is_error: bool, attributes: Mapping[str, Any] = names.NONE) -> Usage:
    """Return what a step of a kind adds to its run besides what a model call used; the same object for the same.

    `attributes` say of a call of a tool whether its caller may report it too.
    """
    calls = TOOL_CALLS if names.SERVED.isdisjoint(attributes) else SERVED
    return _STEPS[calls if kind == names.TOOL else None, is_error]


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
    if (provider := provider_of(view.attributes)) is not None:
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


def _with_sum_apart(view: SpanView, usage: Usage) -> Usage:
    """Return a model call's usage with its tokens apart, where its sender adds them to those of the next call."""
    sender = names.sender_of(view.attributes, view.resource)
    if sender is None or not sender.sums_after:
        return usage
    provider = (provider_of(view.attributes) or "").lower()
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
