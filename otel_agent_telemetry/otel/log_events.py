"""The log door: events that come as log records (OTEP 4430) instead of span events.

A record with an `event_name` that is emitted inside a run, or inside a step of one, is an
event of that run. Any record with `exception.*` attributes that is emitted inside a run itself
says why it failed, if it fails and its span has no exception event. Other log records are not
recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk._logs import LogRecordProcessor

from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.processor import AgentRunSpanProcessor

_EXCEPTION: Final = frozenset({names.EXCEPTION_TYPE, names.EXCEPTION_MESSAGE})


class AgentRunLogProcessor(LogRecordProcessor):
    """Records log-based events of the runs that `processor` records. Never raises, never waits."""

    def __init__(self, processor: AgentRunSpanProcessor) -> None:
        self._processor = processor

    def on_emit(self, log_record: Any) -> None:
        """Record an event; called on the thread that emits it."""
        try:
            self._emit(log_record.log_record)
        except Exception as problem:  # the outer edge of Logger.emit
            self._processor.recorder.counters.internal("log event", problem)

    def _emit(self, record: Any) -> None:
        """Record a log record as an event of the open run or step that it belongs to, if it has a name."""
        attributes = record.attributes or {}
        name = names.event_name_of(record.event_name or "", attributes)
        is_exception = not attributes.keys().isdisjoint(_EXCEPTION)
        if not name and not is_exception:
            return
        span = trace.get_current_span(record.context)
        span_id = record.span_id or span.get_span_context().span_id
        opened = self._processor.find_open(span_id, span) if span_id else None
        if opened is None:
            return
        if is_exception and opened.is_run:
            opened.run.logged_exception = dict(attributes)
        if name:
            self._processor.record_event(opened, name, _payload(record), record.timestamp or record.observed_timestamp)

    def shutdown(self) -> None:
        """Nothing is held here; the span processor delivers."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until what was recorded has reached its target; False when the time ran out."""
        return self._processor.force_flush(timeout_millis)


def _payload(record: Any) -> dict[str, Any]:
    """Return body and attributes of a log record as the payload of an event."""
    attributes = {key: value for key, value in (record.attributes or {}).items() if key != names.EVENT_NAME}
    if record.body is None:
        return attributes
    if isinstance(record.body, Mapping):
        return {**record.body, **attributes}
    return {"body": record.body, **attributes}
