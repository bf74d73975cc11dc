"""What many steps of a run are and used, for a page.

A step that came over OTLP has its usage beside it; of a step of a journal its attributes are read
(`operations.step_facts`).
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from otel_agent_telemetry.operations.step_facts import (
    AGENT,
    MODEL,
    NO_FACTS,
    TOOL,
    StepFacts,
    facts_of_attributes,
)
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
        return StepFacts(AGENT)
    if usage_json is None:
        return NO_FACTS
    usage = usage_of_row(usage_json)
    if "model_calls" in usage:
        models = usage.get("models") or [None]
        return StepFacts(MODEL, models[0], usage.get("input_tokens"), usage.get("output_tokens"))
    return StepFacts(TOOL) if "tool_calls" in usage else NO_FACTS
