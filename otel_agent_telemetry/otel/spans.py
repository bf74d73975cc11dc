"""One neutral view of a span, live, ended or received; and what the client hands over beside a span.

The mapping knows spans as `SpanView` only. `StartParameters` and `EventPayload` carry the values
that a caller gave from the client to the processor as they are, not as attributes can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_agent_telemetry.clock import instant_ns
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.program_name import program_name
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.redaction import kept_run_id
from otel_agent_telemetry.run_id import check_custom_run_id

START_PARAMETERS: Final = otel_context.create_key("otel-agent-telemetry-start-parameters")
"""The key of the `StartParameters` in a span's parent context."""
_BAGGAGE: Final[str] = getattr(baggage, "_BAGGAGE_KEY", "")
"""The key of a context's baggage, where OpenTelemetry has it under this name: most contexts have none."""
RUN_ID_KEY: Final = "agent_run.id"
"""The baggage member that names a run across processes; `propagation` sends it."""
_KINDS = ("internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")


_MAX_RESOURCES = 64
_SPAN_ID: Final = lazy("(?!0{16})[0-9a-f]{16}")


class SpanView(NamedTuple):
    """A span's content. Ids are hex, times nanoseconds, `status` is `unset`, `ok` or `error`.

    A tuple, because one is made at each start and end on the application's thread. The
    attributes are a copy, the resource's are shared.
    """

    name: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    kind: str
    start_ns: int
    end_ns: int | None
    status: str
    status_message: str | None
    attributes: dict[str, Any]
    resource: Mapping[str, Any]


def view_of(span: ReadableSpan) -> SpanView:
    """Return the view of a span of the SDK, live or ended. Copies nothing large."""
    context = span.get_span_context()
    assert context is not None, "the SDK gives every recorded span a context"
    parent = span.parent
    return SpanView(
        name=span.name if type(span.name) is str else str(span.name),
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_span_id=None if parent is None else f"{parent.span_id:016x}",
        kind=_KINDS[span.kind.value],
        start_ns=instant_ns(span.start_time, 0),
        end_ns=None if span.end_time is None else instant_ns(span.end_time, instant_ns(span.start_time, 0)),
        status=_STATUSES[span.status.status_code.value],
        status_message=span.status.description,
        attributes=attributes_of(span),
        resource=resource_of(span.resource),
    )


def announced_by(view: SpanView) -> SpanView:
    """Return the open span that a view only announces, as Logfire's pending spans do; else the view itself."""
    for name, parents in names.PENDING.items():
        parent_in = parents.get(str(view.attributes.get(name)))
        if parent_in is not None and view.parent_span_id is not None:
            parent = str(view.attributes.get(parent_in))
            return view._replace(
                span_id=view.parent_span_id,
                parent_span_id=parent if _SPAN_ID.fullmatch(parent) else None,
                end_ns=None,
                attributes={key: value for key, value in view.attributes.items() if key not in (name, parent_in)},
            )
    return view


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """Return a plain copy of a span's attributes.

    The SDK's mapping takes a lock and a Python call for each item; its inner dict, where it
    has one (1.39 to 1.45), is copied at once.
    """
    inner = getattr(getattr(span, "_attributes", None), "_dict", None)
    return dict(inner) if isinstance(inner, dict) else dict(span.attributes or {})


def has_dropped_attributes(span: ReadableSpan) -> bool:
    """Return whether a span had more attributes than it keeps."""
    dropped = getattr(getattr(span, "_attributes", None), "dropped", None)
    return bool(span.dropped_attributes if dropped is None else dropped)


_resources: dict[int, tuple[Resource, Mapping[str, Any]]] = {}
"""id → the resource itself (which keeps the id its own) and its attributes; a process has one or two."""


def resource_of(resource: Resource) -> Mapping[str, Any]:
    """Return the attributes of a resource of this process, the same mapping for the same resource.

    Where no service name is set, the program's name is the service's.
    """
    known = _resources.get(id(resource))
    if known is None:
        if len(_resources) >= _MAX_RESOURCES:
            # Emptied whole: an application that makes a resource a span must not fill the memory.
            _resources.clear()
        attributes = dict(resource.attributes)
        service = attributes.get(names.SERVICE_NAME)
        if not service or str(service).startswith(names.DEFAULT_SERVICE):
            attributes[names.SERVICE_NAME] = program_name() or service or names.DEFAULT_SERVICE
        known = _resources[id(resource)] = (resource, MappingProxyType(attributes))
    return known[1]


class StartParameters:
    """What the client orders for the run that it is about to start, beside the span's attributes.

    It travels in the context given to `start_span` and so reaches `on_start` with the
    values as the caller gave them, whatever types and however many they are.
    """

    __slots__ = ("agent_name", "attributes", "extra", "run", "run_id", "settings")

    def __init__(self, run_id: object, agent_name: str, settings: dict[str, Any], extra: dict[str, Any]) -> None:
        self.run_id = run_id
        self.agent_name = agent_name
        self.settings = settings
        self.extra = extra
        self.attributes: dict[str, Any] | None = None
        """Attributes that the span gets from the processor; None where it starts with them."""
        self.run: ActiveRun | None = None
        """The run that came of it."""

    def in_context(self, parent: SpanContext | None = None) -> otel_context.Context:
        """Return the context to start the span in: the current one, in which `parent` is the span where none is."""
        context = otel_context.get_current()
        if parent is not None and not trace.get_current_span(context).get_span_context().is_valid:
            context = trace.set_span_in_context(NonRecordingSpan(parent), context)
        return otel_context.Context({**context, START_PARAMETERS: self})


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


def parent_run_of(context: otel_context.Context) -> str | None:
    """Return the run that a context came from, by its baggage; None when it names none that can be one."""
    if _BAGGAGE and _BAGGAGE not in context:
        return None
    run_id = baggage.get_baggage(RUN_ID_KEY, context)
    return str(run_id) if run_id is not None and check_custom_run_id(run_id) is None else None


def run_of_resource(resource: Mapping[str, Any]) -> str | None:
    """Return the run that a program was started in, by `agent_run.id` of its resource; None when it names none.

    `agent-telemetry run` sets it for programs that take neither a trace nor baggage from their environment.
    """
    run_id = resource.get(RUN_ID_KEY)
    return kept_run_id(run_id) if isinstance(run_id, str) and check_custom_run_id(run_id) is None else None
