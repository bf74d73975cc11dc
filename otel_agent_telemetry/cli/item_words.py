"""Runs, events and steps in words, for a line of `show` or `tail`: name, outcome, time taken, tokens and cost."""

from collections.abc import Mapping
from typing import Any

from otel_agent_telemetry import status as st
from otel_agent_telemetry.cli.output import format_cost, format_count, format_duration, to_json_text
from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.operations.line_items import Item
from otel_agent_telemetry.operations.step_facts import MODEL, STEP, TOOL, cost_of_step, facts_of_attributes

_STACKTRACE = "exception.stacktrace"
_NO_WORD = ("unset", "ok", st.SUCCESS)


def described(item: Item) -> str:
    """Return an item without its time: what it was, how it ended, how long it took, what it used."""
    if isinstance(item, RunEvent):
        return f"{item.event_type}{_payload(item.payload)}"
    if isinstance(item, RunRecord):
        outcome = f"{item.status}  {format_duration(item.duration_ms)}" if item.ended else item.status
        used = used_by(item.model, item.input_tokens, item.output_tokens, item.cost_usd)
        error = f"  {item.error_summary}" if item.error_summary else ""
        return f"{item.agent_name} / {item.job_type}  {outcome}{used}{error}"
    took = format_duration(item.duration_ms) if item.end_time else "not ended"
    state = "" if item.status in _NO_WORD or not item.end_time else f"{item.status}  "
    message = f"  {item.status_message}" if item.status_message else ""
    return f"{_step(item)}  {state}{took}{_used_in_step(item)}{message}"


def _payload(payload: Any) -> str:
    """Return what an event carries, a stack trace left to the run's error; "" for nothing."""
    if isinstance(payload, Mapping):
        payload = {name: value for name, value in payload.items() if name != _STACKTRACE}
    return "" if payload in (None, {}) else f"  {to_json_text(payload)}"


def _step(step: RunSpan) -> str:
    """Return the name of a step with what it is, where its name does not begin with it."""
    kind = facts_of_attributes(step.attributes, step.name).kind
    word = {MODEL: "model ", TOOL: "tool "}.get(kind, "") if kind != STEP else ""
    return step.name if step.name.startswith(("chat ", "execute_tool ")) else word + step.name


def _used_in_step(step: RunSpan) -> str:
    """Return model, tokens and cost of a model call; "" for another step."""
    facts = facts_of_attributes(step.attributes, step.name)
    if facts.kind != MODEL:
        return ""
    model = None if facts.model and facts.model in step.name else facts.model
    return used_by(model, facts.input_tokens, facts.output_tokens, cost_of_step(step))


def used_by(model: str | None, tokens_in: int | None, tokens_out: int | None, cost: float | None) -> str:
    """Return ` · model · 1.5k in, 123 out · $0.0008` of what is known; "" where nothing is."""
    tokens = (
        f"{format_count(tokens_in or 0)} in, {format_count(tokens_out or 0)} out" if tokens_in or tokens_out else None
    )
    known = [text for text in (model, tokens, None if cost is None else format_cost(cost)) if text]
    return "".join(f" · {text}" for text in known)
