"""What a line of a journal is: a run's state, an event or a step, as readers show it."""

from __future__ import annotations

from typing import Any

from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.storage.pricing import with_cost
from otel_agent_telemetry.wire import EVENT, RUN, SPAN, Line

Item = RunRecord | RunSpan | RunEvent


def item_of(line: Line) -> Item | None:
    """Return what a line holds, a run with its cost by the prices in use; None for what this version cannot read."""
    ids = {name: str(line.get(name) or "") for name in ("event_id", "run_id")}
    kind = line.get("record_type")
    if kind == EVENT:
        return event_of(line, **ids)
    if kind == SPAN:
        return step_of(line, **ids)
    if kind != RUN:
        return None
    try:
        return with_cost(RunRecord.from_fields(line))
    except RecordError:  # a state of a newer version, or a damaged one
        return None


def event_of(line: Line, *, event_id: str, run_id: str) -> RunEvent:
    """Return the event of a journal line; missing members get defaults."""
    return RunEvent(
        event_id=event_id,
        run_id=run_id,
        event_type=str(line.get("event_type") or "event"),
        timestamp=str(line.get("timestamp") or ""),
        payload=line.get("payload"),
        trace_id=_text(line.get("trace_id")),
        span_id=_text(line.get("span_id")),
    )


def step_of(line: Line, *, event_id: str, run_id: str) -> RunSpan:
    """Return the step of a journal line; missing members get defaults, as a line can be of any version."""
    attributes, duration = line.get("attributes"), line.get("duration_ms")
    return RunSpan(
        event_id=event_id,
        run_id=run_id,
        trace_id=str(line.get("trace_id") or ""),
        span_id=str(line.get("span_id") or ""),
        parent_span_id=_text(line.get("parent_span_id")),
        name=str(line.get("name") or ""),
        kind=str(line.get("kind") or "internal"),
        status=str(line.get("status") or "running"),
        status_message=_text(line.get("status_message")),
        start_time=str(line.get("start_time") or ""),
        end_time=_text(line.get("end_time")),
        duration_ms=duration if isinstance(duration, int) else 0,
        attributes=attributes if isinstance(attributes, dict) else {},
    )


def _text(value: Any) -> str | None:
    """Return a member as text, None for a missing one."""
    return None if value is None else str(value)
