"""One neutral view of a span: live, ended, or received; the mapping knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from otel_agent_telemetry.clock import instant_ns

_KINDS = ("internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")


_MAX_RESOURCES = 64


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
    """The view of a span of the SDK, live or ended. Copies nothing large."""
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


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """A plain copy of a span's attributes.

    The SDK's mapping takes a lock and a Python call for each item; its inner dict, where it
    has one (1.39 to 1.45), is copied at once.
    """
    inner = getattr(getattr(span, "_attributes", None), "_dict", None)
    return dict(inner) if isinstance(inner, dict) else dict(span.attributes or {})


_resources: dict[int, tuple[Resource, Mapping[str, Any]]] = {}
"""id → the resource itself (which keeps the id its own) and its attributes; a process has one or two."""


def resource_of(resource: Resource) -> Mapping[str, Any]:
    """Return the attributes of a resource, the same mapping for the same resource."""
    known = _resources.get(id(resource))
    if known is None:
        if len(_resources) >= _MAX_RESOURCES:
            _resources.clear()
        known = _resources[id(resource)] = (resource, MappingProxyType(dict(resource.attributes)))
    return known[1]
