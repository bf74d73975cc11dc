"""What a step is and used, by its attributes: a model call with tokens and cost, a tool call, an agent, or a step."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.model import RunSpan
from otel_agent_telemetry.otel.conventions import convention as kinds
from otel_agent_telemetry.otel.conventions.table import kind_of
from otel_agent_telemetry.otel.usage import call_kind
from otel_agent_telemetry.otel.usage_attributes import (
    USAGE_NAMES,
    model_of,
    provider_of,
    reported_cost,
    tokens_of,
)
from otel_agent_telemetry.storage.pricing import cost_of

MODEL: Final = "model"
TOOL: Final = "tool"
AGENT: Final = "agent"
STEP: Final = "step"
WORDS: Final[Mapping[str | None, str]] = {
    kinds.AGENT: AGENT,
    kinds.MODEL: MODEL,
    kinds.TOOL: TOOL,
    kinds.CHAIN: STEP,
    None: STEP,
}
"""Kind of a step in the table of conventions → its word here."""
_A_DOLLAR: Final = 1e9
"""Costs are counted in 10^-9 US dollars."""


class StepFacts(NamedTuple):
    """`kind` is `model`, `tool`, `agent` or `step`; the model and its tokens where the step names them."""

    kind: str = STEP
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


NO_FACTS: Final = StepFacts()


def facts_of_attributes(attributes: Mapping[str, Any], name: str) -> StepFacts:
    """Return what the attributes of a step with this name say of it."""
    # One look for most steps: they are no call of anything.
    if USAGE_NAMES.isdisjoint(attributes):
        return NO_FACTS
    kind = call_kind(attributes, name) or kind_of(attributes, name)
    if kind != kinds.MODEL:
        return StepFacts(WORDS[kind])
    tokens = tokens_of(attributes)
    return StepFacts(MODEL, model_of(attributes), tokens.get("input_tokens"), tokens.get("output_tokens"))


def cost_of_step(step: RunSpan) -> float | None:
    """Return what a model call cost in US dollars: as it reports, else by the prices in use; None if not known."""
    cost, model = reported_cost(step.attributes), model_of(step.attributes)
    if cost is None and model is not None:
        used = {**tokens_of(step.attributes), "provider": provider_of(step.attributes), "model_calls": 1}
        with contextlib.suppress(ValueError, OverflowError):  # a start time that is none
            cost = cost_of(model, used, datetime.fromtimestamp(parse_iso(step.start_time) / 1e9, UTC))
    return None if cost is None else cost / _A_DOLLAR
