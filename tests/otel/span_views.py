"""Views of spans that never were."""

from __future__ import annotations

from otel_agent_telemetry.otel.spans import SpanView


def view(attributes=None, *, name="span", status="ok"):
    """The view of an ended span with these attributes."""
    return SpanView(
        name=name,
        trace_id="1" * 32,
        span_id="2" * 16,
        parent_span_id=None,
        kind="internal",
        start_ns=1_760_000_000_000_000_000,
        end_ns=1_760_000_001_000_000_000,
        status=status,
        status_message=None,
        attributes=attributes or {},
        resource={},
    )
