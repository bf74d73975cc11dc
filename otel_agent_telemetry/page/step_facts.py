"""What a step is and used, in the words of a page: a model call with its tokens, a tool call, an agent, or just a step.

A step that came over OTLP has its usage beside it; of a step of a journal the table of
conventions (`otel.conventions`) reads the attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from otel_agent_telemetry.otel.conventions.convention import AGENT, CHAIN, MODEL, TOOL
from otel_agent_telemetry.otel.conventions.table import kind_of
from otel_agent_telemetry.otel.usage import call_kind
from otel_agent_telemetry.otel.usage_attributes import USAGE_NAMES, model_of, tokens_of
from otel_agent_telemetry.storage.step_rows import (
    StepRow,
    attributes_of,
    has_number,
    is_of_run,
    step_names,
    usages_of,
)
from otel_agent_telemetry.storage.steps import usage_of_row
from otel_agent_telemetry.wire import load_object

STEP: Final = "step"
_WORDS: Final[Mapping[str | None, str]] = {AGENT: "agent", MODEL: "model", TOOL: "tool", CHAIN: STEP, None: STEP}


class StepFacts(NamedTuple):
    """`kind` is `model`, `tool`, `agent` or `step`; the model and its tokens where the step names them."""

    kind: str = STEP
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


_PLAIN: Final = StepFacts()


def facts_of(connection: Connection, rows: Sequence[StepRow]) -> dict[int, StepFacts]:
    """Return the facts of steps, a few hundred, by the number of their row."""
    found = {row.id: facts_of_usage(row.usage_json, row.is_run) for row in rows}
    names = {row.id: row.name for row in rows if row.usage_json is None}
    for number, text in attributes_of(connection, has_number(names)) if names else ():
        found[number] = facts_of_attributes(load_object(text) or {}, names[number])
    return found


def kinds_of(connection: Connection, event_id: str) -> dict[int, str]:
    """Return what each step of a run is by the number of its row. Reads the attributes of a journal's steps."""
    found = {
        number: facts_of_usage(usage_json, is_run).kind
        for number, usage_json, is_run in usages_of(connection, event_id)
    }
    names = step_names(connection, event_id)
    for number, text in attributes_of(connection, is_of_run(event_id)):
        found[number] = facts_of_attributes(load_object(text) or {}, names.get(number, "")).kind
    return found


def facts_of_usage(usage_json: str | None, is_run: int) -> StepFacts:
    """Return what the usage beside a step, and its being an agent's span, say of it."""
    if is_run:
        return StepFacts(_WORDS[AGENT])
    if usage_json is None:
        return _PLAIN
    usage = usage_of_row(usage_json)
    if "model_calls" in usage:
        models = usage.get("models") or [None]
        return StepFacts(_WORDS[MODEL], models[0], usage.get("input_tokens"), usage.get("output_tokens"))
    return StepFacts(_WORDS[TOOL]) if "tool_calls" in usage else _PLAIN


def facts_of_attributes(attributes: Mapping[str, Any], name: str) -> StepFacts:
    """Return what the attributes of a step say of it."""
    if USAGE_NAMES.isdisjoint(attributes):
        return _PLAIN
    kind = call_kind(attributes, name) or kind_of(attributes, name)
    if kind != MODEL:
        return StepFacts(_WORDS[kind])
    tokens = tokens_of(attributes)
    return StepFacts(_WORDS[MODEL], model_of(attributes), tokens.get("input_tokens"), tokens.get("output_tokens"))
