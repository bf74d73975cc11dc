"""One neutral view of a span: live, ended, or received; the mapping knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

_KINDS = ("internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")


@dataclass(frozen=True, slots=True)
class SpanView:
    """A span's content. Ids are hex, times nanoseconds, `status` is `unset`, `ok` or `error`.

    The mappings are the span's own and may change while it lives.
    """

    name: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    parent_is_remote: bool
    kind: str
    start_ns: int
    end_ns: int | None
    status: str
    status_message: str | None
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]

    @property
    def is_local_root(self) -> bool:
        """Whether this process has no span above it."""
        return self.parent_span_id is None or self.parent_is_remote


def view_of(span: ReadableSpan) -> SpanView:
    """The view of a span of the SDK, live or ended. Copies nothing large."""
    context = span.get_span_context()
    assert context is not None, "the SDK gives every recorded span a context"
    parent = span.parent
    return SpanView(
        name=span.name,
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_span_id=None if parent is None else f"{parent.span_id:016x}",
        parent_is_remote=parent is not None and parent.is_remote,
        kind=_KINDS[span.kind.value],
        start_ns=span.start_time or 0,
        end_ns=span.end_time,
        status=_STATUSES[span.status.status_code.value],
        status_message=span.status.description,
        attributes=span.attributes or {},
        resource=span.resource.attributes,
    )
