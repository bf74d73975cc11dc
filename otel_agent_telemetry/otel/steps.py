"""From a child span to the journal line of a step. Pure."""

from __future__ import annotations

from typing import Any

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel.attributes import is_content
from otel_agent_telemetry.otel.mapping import Surroundings
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.redaction import clean


def step_members(view: SpanView, around: Surroundings, *, event_id: str, run_id: str) -> dict[str, Any]:
    """The members of `RunSpan` for a span of that run, started or ended; what is unknown is left out."""
    members: dict[str, Any] = {
        "event_id": event_id,
        "run_id": run_id,
        "trace_id": view.trace_id,
        "span_id": view.span_id,
        "parent_span_id": view.parent_span_id,
        "name": view.name,
        "kind": view.kind,
        "status": "running" if view.end_ns is None else view.status,
        "start_time": iso_utc(view.start_ns),
    }
    if view.end_ns is not None:
        members["end_time"] = iso_utc(view.end_ns)
        members["duration_ms"] = max(view.end_ns - view.start_ns, 0) // 1_000_000
        if view.status_message:
            members["status_message"] = clean(view.status_message, max_bytes=around.max_bytes)
    kept = {key: value for key, value in view.attributes.items() if around.capture_content or not is_content(key)}
    if kept:
        members["attributes"] = clean(kept, max_bytes=around.max_bytes)
    return members
