"""What the client tells the processor beside the span: values as they are, not as attributes can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.run_id import check_custom_run_id

_KEY: Final = otel_context.create_key("otel-agent-telemetry-told")


class StartParameters:
    """What the client orders for the run that it is about to start, beside the span's attributes.

    It travels in the context given to `start_span` and so reaches `on_start` with the
    values as the caller gave them, whatever types and however many they are.
    """

    __slots__ = ("agent_name", "extra", "run", "run_id", "settings")

    def __init__(self, *, run_id: object, agent_name: str, settings: dict[str, Any], extra: dict[str, Any]) -> None:
        self.run_id = run_id
        self.agent_name = agent_name
        self.settings = settings
        self.extra = extra
        self.run: ActiveRun | None = None
        """The run that came of it."""

    def in_context(self, parent: SpanContext | None = None) -> otel_context.Context:
        """Return the context to start the span in: the current one, in which `parent` is the span where none is."""
        context = otel_context.get_current()
        if parent is not None and not trace.get_current_span(context).get_span_context().is_valid:
            context = trace.set_span_in_context(NonRecordingSpan(parent), context)
        return otel_context.set_value(_KEY, self, context)

    @classmethod
    def of(cls, context: otel_context.Context) -> StartParameters | None:
        """Return the parameters that a span's parent context carries, None when it carries none."""
        parameters = context.get(_KEY)
        return parameters if isinstance(parameters, cls) else None


class EventPayload(dict[str, Any]):
    """Event attributes that carry, beside what OpenTelemetry takes, the cleaned payload itself."""

    __slots__ = ("payload",)

    def __init__(self, attributes: Mapping[str, Any], payload: Any) -> None:
        super().__init__(attributes)
        self.payload = payload


def remote_parent(trace_parent: str | None) -> SpanContext | None:
    """Return the span that a valid W3C `traceparent` names; None for None."""
    if trace_parent is None:
        return None
    _, trace_id, span_id, flags = trace_parent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


RUN_ID_KEY: Final = "agent_run.id"
"""The baggage member that names a run across processes; `propagation` sends it."""


def parent_run_of(context: otel_context.Context) -> str | None:
    """Return the run that a context came from, as its baggage says; None when it names none that can be one."""
    run_id = baggage.get_baggage(RUN_ID_KEY, context)
    return str(run_id) if run_id is not None and check_custom_run_id(run_id) is None else None
